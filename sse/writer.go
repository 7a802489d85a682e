package sse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// ErrClosed is returned by a Send after [Writer.Close]. It is also the cause of the
// Writer's Context, unless that ended before.
var ErrClosed = errors.New("sse: the stream is closed")

var (
	// errProbed refuses a stream to a request of ssetest.Diagnose.
	errProbed = errors.New("sse: the request is a probe, which has been answered")

	// errEnded is the cause of a Context that a middleware ended: Drain, or a
	// disconnect by Limit.
	errEnded = errors.New("sse: the server has ended the stream")

	// errMaxAge is the cause of a Context that Options.MaxAge ended.
	errMaxAge = errors.New("sse: the stream has reached its MaxAge")
)

// maxKeptBuffer is the largest buffer that a Writer keeps from one Send to the next.
const maxKeptBuffer = 64 << 10

// Writer streams the events of a handler of your own: the tokens of an answer, the
// progress of a job. It sends heartbeats while the handler sends nothing. [NewWriter]
// returns one, and the handler closes it.
//
// Its methods are safe for concurrent use.
type Writer struct {
	// Set by NewWriter.
	response *response
	claim    *streamctx.Claim
	ctx      context.Context
	cancel   context.CancelCauseFunc
	detach   func()      // releases the middleware that waits for the stream
	maxAge   *time.Timer // nil without Options.MaxAge

	// Guarded by mu, which is locked during each write. Writes have a deadline.
	mu         sync.Mutex
	heartbeats *time.Timer // nil without Options.Heartbeat
	buf        []byte      // for the events of a Send
	lastWrite  time.Time
	err        error // final: why nothing more is written
	handedBack bool  // net/http has the response back
}

// NewWriter begins an event stream as the response to r, and sends its header and a
// first block at once. The request may have any method. If opts is nil, the defaults
// apply; if not, it is not kept.
//
// The caller closes the Writer before its handler returns. http.Server.Shutdown waits
// for the handler, as it does for any other; middleware.Drain ends its Context, unless
// Drain.FinishAnswers is set.
//
// After an error nothing has been sent, and the caller answers the request. The error
// wraps [ErrCannotFlush] if a wrapper of w hides Flush, and names the wrapper. There is
// also an error if a middleware has already answered or released the request. A first
// block that cannot be written is no error of NewWriter: Send returns it.
func NewWriter(w http.ResponseWriter, r *http.Request, opts *Options) (*Writer, error) {
	if streamctx.Probed(w, r) {
		return nil, errProbed
	}
	var options Options
	if opts != nil {
		options = *opts
	}
	options = options.withDefaults()
	claim := streamctx.ClaimOf(w, r)
	response, err := claimResponse(claim, r, options)
	if err != nil {
		claim.Leave()
		return nil, err
	}
	s := &Writer{response: response, claim: claim}
	s.ctx, s.cancel = context.WithCancelCause(claim.Context)
	_ = response.commit(options) // a stream without deadlines is a stream all the same
	s.detach = streamctx.Attach(claim.Context, s.end)
	s.begin(r, options)
	// Bypass may return as soon as requestEnded has run, so it is registered last.
	context.AfterFunc(claim.Context, s.requestEnded)
	return s, nil
}

// claimResponse returns the response that the claimed ResponseWriter writes.
func claimResponse(claim *streamctx.Claim, r *http.Request, o Options) (*response, error) {
	response, err := newResponse(claim.Writer, r, nil, o)
	if err != nil {
		return nil, err
	}
	if err := claim.Take(); err != nil {
		return nil, fmt.Errorf("sse: %w", err)
	}
	claim.Announce(http.StatusOK, setHeader, nil)
	return response, nil
}

// begin writes the first block and starts the timers.
func (s *Writer) begin(r *http.Request, o Options) {
	s.mu.Lock() // a timer may fire before it is stored
	defer s.mu.Unlock()
	if err := s.response.write(append(prologue(r, o), '\n')); err != nil {
		s.fail(err)
	}
	s.lastWrite = time.Now()
	if o.Heartbeat > 0 {
		s.heartbeats = time.AfterFunc(o.Heartbeat, func() { s.heartbeat(o.Heartbeat) })
	}
	if o.MaxAge > 0 {
		s.maxAge = time.AfterFunc(delivery.Lifetime(o.MaxAge), func() { s.cancel(errMaxAge) })
	}
}

// requestEnded is called when the request's context ends: the client has left, or the
// handler has returned, perhaps without Close. From then on no middleware waits for the
// stream.
func (s *Writer) requestEnded() {
	s.detach()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.claim.Bypass() {
		s.claim.Leave()
		return // the handler may still Send, and gets the error of the connection
	}
	if !s.handedBack {
		s.handedBack = true
		s.fail(fmt.Errorf("sse: %w", context.Cause(s.claim.Context)))
		s.response.End(delivery.Reason{}) // Close must not touch it any more
		s.claim.Leave()
	}
}

// end ends the Context for a middleware. The handler then closes the Writer.
func (s *Writer) end(how streamctx.End) {
	if how.Finish {
		return
	}
	if how.Cut {
		s.response.Cut()
	}
	if how.Cause == nil {
		s.cancel(errEnded)
		return
	}
	s.cancel(fmt.Errorf("%w: %w", errEnded, how.Cause))
}

// Context returns the context of the stream. It has the values of the request's context,
// and ends with it, which is when the client has left. It also ends when a middleware
// ends the stream (Drain, a disconnect), after Options.MaxAge, when a write fails, and on
// Close. A handler sends events until then; after MaxAge, and when a middleware has
// ended the stream, it may still send last ones.
//
// context.Cause returns the reason. Since net/http may notice first that the client is
// gone, the error of a failed write is what Send and Close return, rather than the cause.
func (s *Writer) Context() context.Context { return s.ctx }

// Send writes events and flushes them, all in one write that has Options.WriteTimeout. It
// does not keep their Data. If one of the events is invalid, Send writes none of them
// and returns an error that wraps [ErrInvalidEvent]; the stream goes on. Any other
// error is final, is returned by each later Send, and ends the Context.
func (s *Writer) Send(events ...Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.buf = s.buf[:0]
	for _, e := range events {
		b, err := e.AppendText(s.buf)
		if err != nil {
			return err
		}
		s.buf = b
	}
	if len(s.buf) == 0 {
		return nil
	}
	err := s.response.write(s.buf)
	s.lastWrite = time.Now()
	if cap(s.buf) > maxKeptBuffer {
		s.buf = nil
	}
	if err != nil {
		s.fail(err)
	}
	return err
}

// SendJSON sends v as JSON in an event of type typ, which may be empty. It returns the
// error of json.Marshal if v has no JSON form, else the error of [Writer.Send].
func (s *Writer) SendJSON(typ string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("sse: %w", err)
	}
	return s.Send(Event{Type: typ, Data: data})
}

// heartbeat writes a heartbeat if nothing was written for the interval, and sets the
// timer for the next one.
func (s *Writer) heartbeat(interval time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.contextOfRequestEnded() {
		return
	}
	if wait := interval - time.Since(s.lastWrite); wait > 0 {
		s.heartbeats.Reset(wait)
		return
	}
	err := guard.Call("a heartbeat", func() error { return s.response.Beat(nil) })
	if panicked, ok := errors.AsType[*guard.PanicError](err); ok {
		err = fmt.Errorf("sse: %w", panicked)
	}
	if err != nil {
		s.fail(err)
		return
	}
	s.lastWrite = time.Now()
	s.heartbeats.Reset(interval)
}

// contextOfRequestEnded reports whether the Context has ended with that of the request.
// The handler may have returned then without Close, so the response may be net/http's
// again. After MaxAge, and when a middleware has ended the stream, the handler still
// runs.
func (s *Writer) contextOfRequestEnded() bool {
	if s.ctx.Err() == nil {
		return false
	}
	cause := context.Cause(s.ctx)
	return cause != errMaxAge && !errors.Is(cause, errEnded)
}

// fail makes err the error of the stream. The caller has locked mu.
func (s *Writer) fail(err error) {
	s.err = err
	s.cancel(err)
}

// Close ends the stream, so that the handler may return: defer it. It waits for a Send
// that is under way, at most for Options.WriteTimeout. Nothing is written once it has
// returned. It returns the error that ended the stream before, if there is one; a
// second Close returns nil.
func (s *Writer) Close() error {
	s.response.Closing()
	defer s.claim.AwaitWrappers() // without mu
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.err, ErrClosed) {
		return nil
	}
	err := s.err
	s.fail(ErrClosed)
	for _, timer := range []*time.Timer{s.heartbeats, s.maxAge} {
		if timer != nil {
			timer.Stop()
		}
	}
	if !s.handedBack {
		s.handedBack = true
		s.response.End(delivery.Reason{})
		s.claim.Leave()
	}
	s.detach()
	return err
}

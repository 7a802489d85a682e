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
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// ErrClosed is wrapped by the error of a Send after [Writer.Close].
var ErrClosed = errors.New("sse: the stream is closed")

// errProbed is what a handler gets whose request ssetest.Diagnose has made.
var errProbed = errors.New("sse: the request was a probe, which has been answered")

// errEnded is why a stream's context ends that a middleware has ended: by a drain, or
// because the client is to be disconnected.
var errEnded = errors.New("sse: the server has ended the stream")

// errMaxAge is why a stream's context ends that has lived long enough.
var errMaxAge = errors.New("sse: the stream has reached its MaxAge")

// Writer streams events that a handler of your own sends: the tokens of an
// answer, the progress of a job. It sends heartbeats while nothing is said.
//
// Its methods are safe for concurrent use.
type Writer struct {
	response *response
	ctx      context.Context
	cancel   context.CancelCauseFunc
	beat     *time.Timer
	age      *time.Timer

	mu    sync.Mutex // held over writes, which have a deadline
	buf   []byte
	wrote time.Time // when something was written last
	err   error     // why nothing is written any more
	left  bool      // the response is net/http's again

	claim  *streamctx.Claim
	detach func() // from what middleware holds for the stream
}

// NewWriter begins an event stream as the response to r, which may have any
// method, and sends its header at once. If opts is nil, the defaults stand.
//
// The caller closes the Writer before its handler returns. http.Server.Shutdown
// waits for it, as for any handler: middleware.Drain ends it. On an error nothing
// was sent, and the caller answers the request; [ErrCannotFlush] names the
// wrapper that stands in the way.
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
	response, err := newResponse(claim.Writer, r, nil, options)
	if err == nil {
		if err = claim.Take(); err != nil {
			err = fmt.Errorf("sse: %w", err)
		}
	}
	if err != nil {
		claim.Leave()
		return nil, err
	}
	s := &Writer{response: response, claim: claim}
	s.ctx, s.cancel = context.WithCancelCause(claim.Context)
	_ = response.commit(options) // without deadlines it streams as well
	s.detach = streamctx.Attach(claim.Context, s.end)
	first := prologue(r, options)
	if err := response.write(append(first, '\n')); err != nil {
		s.fail(err)
	}
	s.wrote = time.Now()
	if options.Heartbeat > 0 {
		s.mu.Lock() // the timer may fire before it is known
		s.beat = time.AfterFunc(options.Heartbeat, func() { s.heartbeat(options.Heartbeat) })
		s.mu.Unlock()
	}
	if options.MaxAge > 0 {
		s.age = time.AfterFunc(options.age(), func() { s.cancel(errMaxAge) })
	}
	// Only now: whoever has forgotten the Writer may let Bypass return.
	context.AfterFunc(claim.Context, s.forgotten)
	return s, nil
}

// forgotten is called when the request's context ends: its client has left, or its
// handler has returned without Close. Nothing may wait for that.
func (s *Writer) forgotten() {
	s.detach()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.claim.Bypass() {
		s.claim.Leave()
		return // the handler may still ask what happened
	}
	if !s.left {
		s.left = true
		_ = s.fail(fmt.Errorf("sse: %w", context.Cause(s.claim.Context)))
		s.response.End(delivery.Reason{}) // Close must not touch it any more
		s.claim.Leave()
	}
}

// end ends the stream as a middleware wants.
func (s *Writer) end(how streamctx.End) {
	if how.Cut {
		s.response.Cut()
	}
	s.cancel(errEnded)
}

// Context ends with the request's, as it does when the client leaves, when a
// middleware ends the stream (a drain, a disconnect), after Options.MaxAge, and when
// a write has failed. Events are of use as long as it has not ended. context.Cause tells why,
// but net/http may take a failed write for its client's end first: what Send and
// Close return is the write's own error.
func (s *Writer) Context() context.Context { return s.ctx }

// Send sends events in one write, which has WriteTimeout, and flushes them. If one of them is invalid,
// none is sent ([ErrInvalidEvent]). Any other error is final, and ends the
// Context.
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
	s.wrote = time.Now()
	if cap(s.buf) > 64<<10 {
		s.buf = nil // a quiet stream stays small
	}
	if err != nil {
		return s.fail(err)
	}
	return nil
}

// SendJSON sends v as JSON in an event of this type, which may be empty.
func (s *Writer) SendJSON(typ string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("sse: %w", err)
	}
	return s.Send(Event{Type: typ, Data: data})
}

// heartbeat writes a comment if nothing else was written for the interval.
func (s *Writer) heartbeat(interval time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The context of a request ends when its handler has returned, also one that
	// forgot to close: the response is net/http's again.
	if s.err != nil || s.ctx.Err() != nil && context.Cause(s.ctx) != errMaxAge && context.Cause(s.ctx) != errEnded {
		return
	}
	if wait := interval - time.Since(s.wrote); wait > 0 {
		s.beat.Reset(wait)
		return
	}
	defer func() {
		if p := recover(); p != nil { // nobody else would
			s.fail(fmt.Errorf("sse: panic in a heartbeat: %v", p))
		}
	}()
	if err := s.response.Beat(nil); err != nil {
		s.fail(err)
		return
	}
	s.wrote = time.Now()
	s.beat.Reset(interval)
}

// fail makes err the end of the stream. The caller holds mu, or is the only one.
func (s *Writer) fail(err error) error {
	s.err = err
	s.cancel(err)
	return err
}

// Close ends the stream. Nothing is written after it returns, so that the
// handler may return: always defer it. It waits for a Send that is on its way,
// at most WriteTimeout. It returns the error that ended the stream before, if
// one did; it may be called again.
func (s *Writer) Close() error {
	s.response.Closing()
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.err, ErrClosed) {
		return nil
	}
	err := s.err
	s.err = ErrClosed
	s.cancel(ErrClosed)
	for _, timer := range []*time.Timer{s.beat, s.age} {
		if timer != nil {
			timer.Stop()
		}
	}
	if !s.left {
		s.left = true
		s.response.End(delivery.Reason{})
		s.claim.Leave()
	}
	s.detach()
	return err
}

package sse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/jsontext"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// ErrClosed is returned by a Send after [Writer.Close] or [Writer.Abort], and by each Send
// of a response to HEAD. It is also the cause of the Writer's Context, unless that ended
// before.
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

// maxKeptBuffer is the largest buffer that a Writer keeps from one write to the next, and
// how many bytes Queue collects.
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
	detach   func()      // releases the middleware that waits for the stream; nil before it does
	maxAge   *time.Timer // nil without Options.MaxAge

	// Guarded by mu, which is locked during each write. Writes have a deadline.
	mu         sync.Mutex
	heartbeats *time.Timer // nil without Options.Heartbeat
	buf        []byte      // the events that have not been written
	began      time.Time
	unread     bool // the request's body was not read to its end when the stream began
	lastWrite  time.Time
	err        error // final: why nothing more is written
	handedBack bool  // net/http has the response back
}

// NewWriter begins an event stream as the response to r, and sends its header at once,
// with a line for Options.Retry if there is one. No blank line precedes the first event,
// since some clients would fire one for it. The header that was set on w before is sent,
// too, with its Cache-Control and with the parameters of a Content-Type
// text/event-stream.
//
// If opts is nil, the defaults apply; if not, it is not kept. The request may have any
// method. The response to HEAD has a header alone (RFC 9110 section 9.3.2): its Writer is
// closed, and its Context has ended.
//
// Read the request's body before: net/http notices that a client has left only once the
// body has been read to its end. Until then, and with more than 256 KB of it unread, the
// failed write of an event or a heartbeat ends the Context: the first heartbeats are sent 1, 2,
// 4 and 8 s after the beginning then, as far as Options.Heartbeat is longer.
//
// The caller closes the Writer before its handler returns. http.Server.Shutdown waits
// for the handler, as it does for any other; middleware.Drain ends its Context, unless
// Drain.FinishAnswers is set.
//
// After an error nothing has been sent, and the caller answers the request. The error
// wraps [ErrCannotFlush] if a wrapper of w hides Flush, and names the wrapper. There is
// also an error if a middleware has already answered or released the request, and for an
// invalid Options.Status. A beginning that cannot be written is no error of NewWriter:
// Send returns it.
func NewWriter(w http.ResponseWriter, r *http.Request, opts *Options) (_ *Writer, err error) {
	if streamctx.Probed(w, r, nil) {
		return nil, errProbed
	}
	var options Options
	if opts != nil {
		options = *opts
	}
	options = options.withDefaults()
	s := &Writer{claim: streamctx.ClaimOf(w, r)}
	begun := false
	defer func() {
		if !begun { // also after a panic of a wrapper
			s.abandon()
		}
	}()
	if s.response, err = claimResponse(s.claim, r, options); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancelCause(s.claim.Context)
	_ = s.response.commit(options) // a stream without deadlines is a stream all the same
	s.detach = streamctx.Attach(s.claim.Context, s.end).Detach
	if r.Method == http.MethodHead {
		_ = s.response.write(nil)
		_ = s.Close()
		begun = true
		return s, nil
	}
	s.begin(r, options)
	// Bypass may return as soon as requestEnded has run, so it is registered last.
	context.AfterFunc(s.claim.Context, s.requestEnded)
	begun = true
	return s, nil
}

// abandon releases what a Writer that has not begun, or never will, has for the request.
func (s *Writer) abandon() {
	if s.detach != nil {
		s.detach()
	}
	if s.cancel != nil {
		s.cancel(ErrClosed)
	}
	if s.response != nil {
		_ = guard.Call("ending a response", func() error { s.response.End(delivery.Reason{}); return nil })
	}
	s.claim.Leave()
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

// begin sends the header and what comes before the first event, and starts the timers.
func (s *Writer) begin(r *http.Request, o Options) {
	s.mu.Lock() // a timer may fire before it is stored
	defer s.mu.Unlock()
	if err := s.response.write(prologue(r, o)); err != nil {
		s.fail(err)
	}
	s.began, s.unread = time.Now(), isUnread(r)
	s.lastWrite = s.began
	if o.Heartbeat > 0 {
		s.heartbeats = time.AfterFunc(s.silence(o.Heartbeat), func() { s.heartbeat(o.Heartbeat) })
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
	s.stopTimers() // they would keep the request in memory, up to MaxAge
	if !s.claim.Bypass() {
		s.claim.Leave()
		return // the handler may still Send, and gets the error of the connection
	}
	if !s.handedBack {
		s.handedBack = true // Close must not touch the response any more
		s.fail(fmt.Errorf("sse: %w", context.Cause(s.claim.Context)))
		_ = guard.Call("ending a response", func() error { s.response.End(delivery.Reason{}); return nil })
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
	if err := s.queue(events); err != nil {
		return err
	}
	return s.writeQueued()
}

// Queue is Send without a flush, for many events in a row: they go out in one write with
// the next Send, which may have no events, or with a comment, a heartbeat or Close. If
// they come to 64 KiB before that, Queue writes them. Its errors are those of Send.
func (s *Writer) Queue(events ...Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.queue(events); err != nil || len(s.buf) < maxKeptBuffer {
		return err
	}
	return s.writeQueued()
}

// Comment sends a comment, which clients ignore (WHATWG HTML 9.2.6), after the events that
// are queued. Each line of text, which CR, LF or CRLF ends, becomes a line of the comment.
// No blank line follows, for which some clients would fire an event. Text that is not
// UTF-8 is an error that wraps [ErrInvalidEvent]. Other errors are those of Send.
func (s *Writer) Comment(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case !utf8.ValidString(text):
		return fmt.Errorf("%w: the comment is not UTF-8", ErrInvalidEvent)
	}
	s.buf = appendLines(s.buf, ": ", []byte(text))
	return s.writeQueued()
}

// SendJSON sends v as JSON in an event of type typ, which may be empty. It returns the
// error of json.Marshal if v has no JSON form, else the error of [Writer.Send]. A string
// in v that is not UTF-8 is refused as Send refuses such Data; json.Marshal would change
// it. A [RuneBuffer] mends text that was cut within a rune.
func (s *Writer) SendJSON(typ string, v any) error {
	data, err := jsontext.Marshal(v)
	switch {
	case errors.Is(err, jsontext.ErrNotUTF8):
		return fmt.Errorf("%w: a string in the JSON is not UTF-8: encode it, as base64 for example, "+
			"or join runes that were cut with a RuneBuffer", ErrInvalidEvent)
	case err != nil:
		return fmt.Errorf("sse: %w", err)
	}
	return s.Send(Event{Type: typ, Data: data})
}

// queue appends events to buf, all or none. The caller has locked mu.
func (s *Writer) queue(events []Event) error {
	if s.err != nil {
		return s.err
	}
	buf := s.buf
	for _, e := range events {
		var err error
		if buf, err = e.AppendText(buf); err != nil {
			return err
		}
	}
	s.buf = buf
	return nil
}

// writeQueued writes what is in buf, and flushes it. The caller has locked mu.
func (s *Writer) writeQueued() error {
	if len(s.buf) == 0 {
		return nil
	}
	queued := s.buf
	s.buf = queued[:0]
	if cap(queued) > maxKeptBuffer {
		s.buf = nil
	}
	err := s.response.write(queued)
	s.lastWrite = time.Now()
	if err != nil {
		s.fail(err)
	}
	return err
}

// fail makes err the error of the stream. The caller has locked mu.
func (s *Writer) fail(err error) {
	s.err = err
	s.cancel(err)
}

// Close ends the stream, so that the handler may return: defer it. It writes the events
// that are queued, and waits for a Send that is under way, at most for
// Options.WriteTimeout. Nothing is written once it has returned. It returns the error that
// ended the stream before, if there is one; a second Close returns nil.
func (s *Writer) Close() error { return s.close(false) }

// Abort is Close by a cut: a response of HTTP/1.1 has no end, and a stream of HTTP/2 is
// reset. It is for clients that come back after a failure, but take the end of a response
// for the end of everything, as those of Datastar and r3labs/sse do, and for a stream
// that must not look complete. What was sent before arrives. Over HTTP/1.0 there is no
// difference between an end and a cut.
//
// If the stream was open, an error says that it could not be cut: a wrapper hides the
// connection's deadlines and Hijack, or it is HTTP/3. A panic with http.ErrAbortHandler
// cuts it there.
func (s *Writer) Abort() error { return s.close(true) }

func (s *Writer) close(cut bool) (err error) {
	s.response.Closing()
	defer s.claim.AwaitWrappers() // without mu
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.err, ErrClosed) {
		return nil
	}
	// Deferred, since a wrapper may panic.
	defer s.detach()
	if !s.handedBack {
		s.handedBack = true
		defer s.claim.Leave()
		defer func() {
			s.response.aborts = cut
			s.response.End(delivery.Reason{})
			if s.response.uncut {
				err = cmp.Or(err, errCannotCut)
			}
		}()
	}
	defer func() {
		err = s.err
		s.fail(ErrClosed)
	}()
	s.stopTimers()
	if s.err == nil {
		_ = s.writeQueued()
	}
	return nil
}

// stopTimers stops the heartbeats and MaxAge for good. The caller has locked mu.
func (s *Writer) stopTimers() {
	for _, timer := range []*time.Timer{s.heartbeats, s.maxAge} {
		if timer != nil {
			timer.Stop()
		}
	}
}

package sse

import (
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/tcp"
	"github.com/fanfare-go/fanfare/internal/wrappers"
)

// ErrCannotFlush is wrapped by the error of a request that gets no stream because no
// Flush can be reached through its http.ResponseWriter. The error names the wrapper that
// hides it.
var ErrCannotFlush = errors.New("sse: the http.ResponseWriter cannot flush")

// response is the response of an attached stream. It flushes each write, and gives it a
// deadline.
type response struct {
	// Set by newResponse.
	w           http.ResponseWriter
	control     *http.ResponseController
	conn        net.Conn      // of the request; nil without ConnContext
	major       int           // the major version of HTTP
	status      int           // of the response
	buffers     *tcp.Buffers  // the handler's; nil for a Writer, which writes one buffer at a time
	bodyTimeout time.Duration // see readBody; 0 if the request has no body
	retry       time.Duration // Options.Retry

	deadline   delivery.Deadline // safe for concurrent use
	awaitsBody atomic.Bool       // the first write waits for the rest of the request's body; set by the goroutine that writes

	// Owned by the goroutine that writes.
	written bool
	aborts  bool // End aborts
	uncut   bool // End could not abort
}

// newResponse returns the response to r, or an error if it cannot be flushed. It sends
// nothing.
func newResponse(w http.ResponseWriter, r *http.Request, buffers *tcp.Buffers, o Options) (*response, error) {
	if err := canFlush(w); err != nil {
		return nil, err
	}
	if err := checkStatus(o.Status); err != nil {
		return nil, err
	}
	control := http.NewResponseController(w)
	s := &response{
		w:        w,
		control:  control,
		deadline: delivery.Deadline{Of: control, Timeout: o.WriteTimeout, Multiplexed: r.ProtoMajor > 1},
		conn:     connOf(r.Context()),
		major:    r.ProtoMajor,
		status:   o.Status,
		buffers:  buffers,
		retry:    o.Retry,
	}
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		s.bodyTimeout = orDefault(o.WriteTimeout, defaultWriteTimeout)
	}
	return s, nil
}

// canFlush returns an error if no Flush can be reached.
func canFlush(w http.ResponseWriter) error {
	if _, _, ok := wrappers.Find[http.Flusher](w); ok {
		return nil
	}
	_, innermost, ok := wrappers.Find[interface{ FlushError() error }](w)
	if ok {
		return nil
	}
	return fmt.Errorf("%w: %T has no Flush, FlushError or Unwrap; %s", ErrCannotFlush, innermost, wrappers.Remedy)
}

// commit sends the header, and replaces the timeouts of the http.Server, which are meant
// for responses that end soon. Its error says that they stay in force, because the
// deadlines of the connection cannot be reached.
func (s *response) commit(o Options) error {
	setHeader(s.w.Header())
	if s.conn != nil {
		boundUnacknowledged(s.conn, o)
	}
	err := errors.Join(
		s.readBody(),
		s.control.SetWriteDeadline(time.Time{}),
	)
	s.deadline.Renew()
	s.w.WriteHeader(s.status)
	return err
}

// multiplexed reports whether other streams share the connection: HTTP/2.
func (s *response) multiplexed() bool { return s.major > 1 }

// checkStatus returns an error if a response with this status has no content (RFC 9110
// section 6.4.1).
func checkStatus(status int) error {
	switch {
	case status < 200 || status > 599,
		status == http.StatusNoContent, status == http.StatusResetContent, status == http.StatusNotModified:
		return fmt.Errorf("sse: Options.Status is %d, and a response with it has no content: set it to 0 for 200", status)
	}
	return nil
}

// readBody sets the deadline for the rest of the request's body. Over HTTP/1, net/http
// reads it before the first write, and again before it reads the next request. The time
// counts as the write's: that has the earlier deadline, so that a body which does not come
// to its end always fails the write, and with it the stream.
func (s *response) readBody() error {
	if s.bodyTimeout == 0 {
		return s.control.SetReadDeadline(time.Time{})
	}
	return s.control.SetReadDeadline(time.Now().Add(s.bodyTimeout + s.bodyTimeout/64))
}

// setHeader sets the header of an event stream. It keeps a Content-Type of one, which may
// have parameters, and a Cache-Control.
func setHeader(header http.Header) {
	contentType := header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(contentType); err != nil || media != "text/event-stream" {
		contentType = "text/event-stream"
	}
	header.Set("Content-Type", contentType)
	if header.Get("Cache-Control") == "" {
		header.Set("Cache-Control", "no-store, no-transform")
	}
	header.Set("X-Accel-Buffering", "no")
	header.Del("Content-Length")
}

// Write writes frames in one write, and flushes it.
func (s *response) Write(frames net.Buffers, _ *delivery.Worker) error {
	if len(frames) == 1 {
		return s.write(frames[0])
	}
	return s.buffers.Join(frames, s.write)
}

// write writes b and flushes it, after the header if that has not been sent yet. If b is
// empty, it only flushes.
func (s *response) write(b []byte) error {
	if s.multiplexed() {
		defer s.deadline.Clear() // over HTTP/2 a deadline that passes resets an idle stream as well
	}
	if err := delivery.InParts(b, &s.deadline, s.writePart); err != nil {
		return err
	}
	if s.bodyTimeout > 0 && !s.written {
		_ = s.control.SetReadDeadline(time.Time{})
	}
	s.written = true
	return nil
}

// writePart writes what has one deadline. Either of its calls may wait.
func (s *response) writePart(part []byte) error {
	if s.bodyTimeout > 0 && !s.written {
		s.awaitsBody.Store(true)
		defer s.awaitsBody.Store(false)
		_ = s.readBody() // once more: after the write's deadline, see readBody
	}
	if len(part) > 0 {
		if _, err := s.w.Write(part); err != nil {
			return fmt.Errorf("sse: writing: %w", err)
		}
	}
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("sse: flushing: %w", err)
	}
	return nil
}

// heartbeat is a comment. No blank line follows it: some clients would fire an event.
var heartbeat = []byte(":\n")

// Beat writes a heartbeat.
func (s *response) Beat(*delivery.Worker) error { return s.write(heartbeat) }

// Tick does nothing: an event stream does nothing by the clock but send heartbeats.
func (*response) Tick() time.Duration { return 0 }

// Closing sets one last deadline for all that is still to be written. A write that waits for the
// request's body keeps its own: net/http ends the request when the body does not come, which is
// no reason to wait longer.
func (s *response) Closing() {
	if !s.awaitsBody.Load() {
		s.deadline.Fix()
	}
}

// Cut makes a write that is blocked fail.
func (s *response) Cut() { s.deadline.Cut() }

// errCannotCut says what is left to do where abort cannot cut.
var errCannotCut = errors.New("sse: the connection cannot be reached to cut it: panic with http.ErrAbortHandler instead")

// abort lets the response have no end: net/http, which writes one when the handler
// returns, cannot write any more. Over HTTP/2 that resets the stream. It is called
// before End.
func (s *response) abort() error {
	if s.major > 2 {
		return errCannotCut // HTTP/3 ends a stream in good order whatever its deadline
	}
	s.deadline.Cut() // nothing renews it from here on
	// A deadline in the past resets a stream of HTTP/2 before SetWriteDeadline returns, and
	// so before its end can be sent.
	if s.control.SetWriteDeadline(time.Now().Add(-time.Second)) == nil {
		return nil
	}
	conn, _, err := s.control.Hijack()
	if err != nil {
		return errCannotCut
	}
	_ = conn.Close()
	return nil
}

// End returns the connection to net/http, which writes the end of the response, and may
// serve another request on it.
func (s *response) End(why delivery.Reason) {
	if retry := lastRetry(why, s.retry); retry != nil {
		_ = s.write(retry)
	}
	if s.aborts && !isLast(why) {
		s.uncut = s.abort() != nil
	}
	s.deadline.Leave() // the one of the last write may have passed
	if s.bodyTimeout > 0 {
		_ = s.readBody()
	}
	if s.conn != nil && !s.multiplexed() {
		tcp.SetUserTimeout(s.conn, 0)
		tcp.SetUnsent(s.conn, 0)
	}
}

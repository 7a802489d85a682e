package sse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/tcp"
	"github.com/fanfare-go/fanfare/internal/wrappers"
)

// ErrCannotFlush says that a stream cannot be written because no Flush can be
// reached through the http.ResponseWriter.
var ErrCannotFlush = errors.New("sse: the http.ResponseWriter cannot flush")

// response is the http.ResponseWriter of a stream: each write is flushed, and has
// a deadline. Writes come one at a time.
type response struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	deadline delivery.Deadline
	conn     net.Conn     // under the request, if ConnContext has told
	shared   bool         // other streams go over the connection as well: HTTP/2
	buffers  *tcp.Buffers // the handler's; nil for one that writes single buffers

	// body is how long the rest of the request's body may take to come, which
	// net/http reads before the first write, and again before the next request;
	// 0: there is none.
	body  time.Duration
	begun bool // something was written
}

// newResponse makes sure that the stream can be written, and sends nothing.
func newResponse(w http.ResponseWriter, r *http.Request, buffers *tcp.Buffers, o Options) (*response, error) {
	if err := canFlush(w); err != nil {
		return nil, err
	}
	control := http.NewResponseController(w)
	var body time.Duration
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		if body = o.WriteTimeout; body == 0 {
			body = defaultWriteTimeout
		}
	}
	return &response{
		w:        w,
		control:  control,
		deadline: delivery.Deadline{Of: control, Timeout: o.WriteTimeout},
		conn:     connOf(r.Context()),
		shared:   r.ProtoMajor > 1,
		body:     body,
		buffers:  buffers,
	}, nil
}

// canFlush returns an error if no Flush can be reached.
func canFlush(w http.ResponseWriter) error {
	_, last, ok := wrappers.Find[http.Flusher](w)
	if !ok {
		_, last, ok = wrappers.Find[interface{ FlushError() error }](w)
	}
	if !ok {
		return fmt.Errorf("%w: %T has no Flush, FlushError or Unwrap; %s", ErrCannotFlush, last, wrappers.Remedy)
	}
	return nil
}

// commit sends the header. From here on the server's timeouts, which are meant
// for responses with an end, no longer count. The error says that they do,
// because they cannot be reached.
func (s *response) commit(o Options) error {
	setHeader(s.w.Header())
	if s.conn != nil {
		tcp.SetUnsent(s.conn, delivery.MaxUnsent)
	}
	if s.conn != nil && o.Heartbeat > 0 && o.WriteTimeout > 0 {
		tcp.SetUserTimeout(s.conn, o.Heartbeat+o.WriteTimeout)
	}
	var read time.Time
	if s.body > 0 {
		read = time.Now().Add(s.body) // until the first write
	}
	err := errors.Join(
		s.control.SetReadDeadline(read),
		s.control.SetWriteDeadline(time.Time{}),
	)
	s.deadline.Renew()
	s.w.WriteHeader(http.StatusOK)
	return err
}

// setHeader sets the header of an event stream.
func setHeader(header http.Header) {
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store, no-transform")
	header.Set("X-Accel-Buffering", "no")
	header.Del("Content-Length")
}

// Write writes and flushes frames in one go.
func (s *response) Write(frames net.Buffers, _ *delivery.Worker) error {
	if len(frames) == 1 {
		return s.write(frames[0])
	}
	return s.buffers.Join(frames, s.write)
}

func (s *response) write(b []byte) error {
	err := delivery.InParts(b, &s.deadline, func(part []byte) error {
		_, err := s.w.Write(part)
		return err
	})
	if err != nil {
		return fmt.Errorf("sse: writing: %w", err)
	}
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("sse: flushing: %w", err)
	}
	if s.body > 0 && !s.begun {
		_ = s.control.SetReadDeadline(time.Time{})
	}
	s.begun = true
	if s.shared {
		s.deadline.Clear() // net/http resets a stream of HTTP/2 then, if it is idle too
	}
	return nil
}

// heartbeat is a comment without a blank line, on which some clients would fire
// an event.
var heartbeat = []byte(":\n")

// Beat writes a heartbeat.
func (s *response) Beat(*delivery.Worker) error { return s.write(heartbeat) }

// Tick has nothing to do: heartbeats follow what goes out.
func (*response) Tick() time.Duration { return 0 }

// Closing gives all that is still to be written one deadline.
func (s *response) Closing() { s.deadline.Fix() }

// Cut lets a write that waits for the client fail.
func (s *response) Cut() { s.deadline.Cut() }

// End is the writer's last act. After it the connection is net/http's again,
// which has the end of the response to write, and may serve another request on it.
func (s *response) End(delivery.Reason) {
	s.deadline.Leave() // what was set for the last write may have passed
	if s.body > 0 {
		_ = s.control.SetReadDeadline(time.Now().Add(s.body))
	}
	if s.conn != nil && !s.shared {
		tcp.SetUserTimeout(s.conn, 0)
		tcp.SetUnsent(s.conn, 0)
	}
}

type connKey struct{}

// ConnContext is for http.Server.ConnContext. With it, streams find out sooner
// that a client has vanished without a word (a phone that lost its network, a
// laptop that was closed): on Linux the connection ends once what was sent has
// been waiting for Heartbeat + WriteTimeout for an acknowledgement. Without it,
// and elsewhere, that is up to the kernel, which on Linux tries for about a
// quarter of an hour.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

func connOf(ctx context.Context) net.Conn {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	return c
}

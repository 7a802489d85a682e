package sse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/guard"
)

// heartbeat writes a heartbeat if nothing was written for the interval, and sets the
// timer for the next one.
func (s *Writer) heartbeat(interval time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.contextOfRequestEnded() {
		return
	}
	if wait := s.silence(interval) - time.Since(s.lastWrite); wait > 0 {
		s.heartbeats.Reset(wait)
		return
	}
	err := guard.Call("a heartbeat", func() error {
		if len(s.buf) > 0 {
			return s.writeQueued()
		}
		return s.response.Beat(nil)
	})
	if panicked, ok := errors.AsType[*guard.PanicError](err); ok {
		err = fmt.Errorf("sse: %w", panicked)
	}
	if err != nil {
		s.fail(err)
		return
	}
	s.lastWrite = time.Now()
	s.heartbeats.Reset(s.silence(interval))
}

// silence returns for how long nothing may be written, before a heartbeat is. If the body
// of the request has not been read, the first heartbeats come sooner: only a write finds out
// that the client has left. The caller has locked mu.
func (s *Writer) silence(interval time.Duration) time.Duration {
	if !s.unread {
		return interval
	}
	return delivery.SoonBeat(interval, s.lastWrite.Sub(s.began))
}

// isUnread reports whether there is more to read of a body whose length is known. It is
// called after the first write, before which net/http reads what is left of a short body,
// and sends no "100 Continue" any more. A Read of no bytes does not block, unless the body is
// chunked.
func isUnread(r *http.Request) bool {
	if r.ProtoMajor != 1 || r.ContentLength <= 0 || r.Body == nil {
		return false
	}
	unread := false
	_ = guard.Call("reading a request's body", func() error {
		_, err := r.Body.Read(nil)
		unread = err == nil
		return nil
	})
	return unread
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

package sse_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// recorder is a ResponseWriter in memory, for streams without a network.
type recorder struct {
	header http.Header

	mu        sync.Mutex
	status    int
	body      []byte
	unflushed int
	writes    []int // their sizes
	deadline  time.Time
	blocked   chan struct{} // while it is not nil, a Write waits until it is closed
	returned  bool          // the handler has returned, so that a Write is a misuse
	misuse    error
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = status
}

func (w *recorder) Write(b []byte) (int, error) {
	w.mu.Lock()
	blocked := w.blocked
	w.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.returned {
		w.misuse = errors.New("written to after the handler has returned")
	}
	w.body = append(w.body, b...)
	w.unflushed += len(b)
	w.writes = append(w.writes, len(b))
	return len(b), nil
}

func (w *recorder) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unflushed = 0
	return nil
}

func (w *recorder) SetReadDeadline(time.Time) error { return nil }

func (w *recorder) SetWriteDeadline(at time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = at
	return nil
}

// sent returns what has been written and flushed, with the nominal time to reconnect after.
func (w *recorder) sent() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return nominal(string(w.body[:len(w.body)-w.unflushed]))
}

// block makes all writes wait until the function that it returns is called.
func (w *recorder) block() (unblock func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	blocked := make(chan struct{})
	w.blocked = blocked
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		close(blocked)
		w.blocked = nil
	}
}

// record returns what a handler sends to a client with this last event ID, until it has
// nothing more to send. It calls meanwhile, which may be nil, once the stream has begun.
// The caller is in a bubble.
func record(t *testing.T, h http.Handler, target, lastEventID string, meanwhile func(w *recorder)) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "GET", target, nil)
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	w := &recorder{header: http.Header{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(w, r)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.returned = true
	}()
	synctest.Wait()
	if meanwhile != nil {
		meanwhile(w)
		synctest.Wait()
	}
	sent := w.sent()
	require.Equal(t, http.StatusOK, w.status)
	cancel()
	<-done
	synctest.Wait()
	require.NoError(t, w.misuse)
	require.Equal(t, sent, w.sent(), "nothing is sent to a client that has left")
	return sent
}

package middleware_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

// A Writer goes on after the timeout of its handler, with the header that the handler
// has set.
func TestBypassWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Model", "small")
			s, err := sse.NewWriter(w, r, nil)
			if !assert.NoError(t, err) {
				return
			}
			defer s.Close()
			for range 3 {
				time.Sleep(25 * time.Second)
				if !assert.NoError(t, s.Send(sse.Event{Data: []byte("token")})) {
					return
				}
			}
		})
		s := ssetest.Connect(t, middleware.Bypass(chains["http.TimeoutHandler"](tokens)), get("/"))
		require.Equal(t, "small", s.Header().Get("X-Model"), "its handler has set that")
		n := 0
		for range s.All() {
			n++
		}
		require.Equal(t, 3, n)
		require.NoError(t, s.End())
	})
}

// A Writer that its handler has not closed ends when the client leaves.
func TestBypassForgottenWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writers := make(chan *sse.Writer, 1)
		forgets := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, nil)
			assert.NoError(t, err)
			writers <- s
		})
		s := ssetest.Connect(t, middleware.Bypass(forgets), get("/"))
		w := <-writers
		s.Close()
		synctest.Wait()
		require.ErrorIs(t, w.Send(sse.Event{Data: []byte("x")}), context.Canceled)
		require.ErrorIs(t, w.Close(), context.Canceled)
	})
}

// Bypass does not return while NewWriter uses the ResponseWriter, not even if the client
// has left and a timeout has answered.
func TestBypassWaitsForNewWriter(t *testing.T) {
	w := &slowWriter{ResponseWriter: httptest.NewRecorder(), entered: make(chan struct{}), leave: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	handled := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(handled)
		s, err := sse.NewWriter(w, r, nil)
		if err == nil {
			s.Close()
		}
	})
	returned := make(chan bool, 1)
	go func() {
		middleware.Bypass(http.TimeoutHandler(h, time.Minute, "")).ServeHTTP(w, get("/").WithContext(ctx))
		returned <- w.writing.Load()
	}()
	<-w.entered
	cancel()
	select {
	case writing := <-returned:
		assert.False(t, writing, "Bypass has returned while the stream writes to the ResponseWriter")
		close(w.leave)
	case <-time.After(300 * time.Millisecond):
		close(w.leave)
		<-returned
	}
	<-handled
}

// slowWriter is a server's writer whose first Write takes a while.
type slowWriter struct {
	http.ResponseWriter
	entered, leave chan struct{}
	writing        atomic.Bool
}

func (s *slowWriter) Write(b []byte) (int, error) {
	s.writing.Store(true)
	defer s.writing.Store(false)
	close(s.entered)
	<-s.leave
	return len(b), errors.New("gone")
}

func (s *slowWriter) Flush() {}

// Close of a Writer whose client has left does not touch the ResponseWriter, which
// net/http has taken back. Over HTTP/2 that would panic.
func TestCloseAfterTheRequest(t *testing.T) {
	result := make(chan any, 1)
	timedOut, returned := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := sse.NewWriter(w, r, nil)
		if !assert.NoError(t, err) {
			return
		}
		defer func() {
			p := recover()
			result <- p
		}()
		defer s.Close()
		<-r.Context().Done()
		close(timedOut)
		<-s.Context().Done()
		select { // it does something else before it closes
		case <-returned:
		case <-time.After(200 * time.Millisecond):
		}
	})
	bypass := middleware.Bypass(http.TimeoutHandler(h, 100*time.Millisecond, "too late"))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(returned)
		bypass.ServeHTTP(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", server.URL, nil)
	response, err := server.Client().Do(r)
	require.NoError(t, err)
	require.Equal(t, 2, response.ProtoMajor)
	<-timedOut
	cancel()
	require.Nil(t, <-result)
}

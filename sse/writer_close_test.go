package sse_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
)

// Nothing is written once Close has returned, whatever heartbeats and Sends race with it: the
// handler returns, and its ResponseWriter goes to another request.
func TestNothingIsWrittenAfterClose(t *testing.T) {
	for range 300 {
		w := &recorder{header: http.Header{}}
		s, err := sse.NewWriter(w, httptest.NewRequest("GET", "/", nil), &sse.Options{Heartbeat: 20 * time.Microsecond, MaxAge: time.Millisecond})
		require.NoError(t, err)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for s.Send(sse.Event{Data: []byte("x")}) == nil {
				}
			})
		}
		for range 2 {
			all.Go(func() {
				for k := range 200 {
					if k == 100 {
						assert.NoError(t, s.Close())
						w.mu.Lock()
						w.returned = true
						w.mu.Unlock()
					}
					s.Context().Err()
				}
			})
		}
		all.Wait()
		require.NoError(t, w.misuse)
	}
}

// Close sets a last deadline before it waits for a Send that is blocked.
func TestCloseGivesABlockedSendOneLastDeadline(t *testing.T) {
	w := &stalled{recorder: &recorder{header: http.Header{}}, writing: make(chan struct{}), deadlines: make(chan time.Time, 9)}
	s, err := sse.NewWriter(w, httptest.NewRequest("GET", "/", nil), &sse.Options{WriteTimeout: time.Hour})
	require.NoError(t, err)
	for len(w.deadlines) > 0 {
		<-w.deadlines
	}
	w.stall.Store(true)
	sent := make(chan error, 1)
	go func() { sent <- s.Send(sse.Event{Data: []byte("x")}) }()
	<-w.writing
	require.ErrorIs(t, s.Close(), os.ErrDeadlineExceeded)
	require.ErrorIs(t, <-sent, os.ErrDeadlineExceeded)
	require.NoError(t, s.Close())
}

// stalled is a ResponseWriter whose Write blocks until a deadline is set.
type stalled struct {
	*recorder
	stall     atomic.Bool
	writing   chan struct{}
	deadlines chan time.Time
}

func (w *stalled) SetWriteDeadline(at time.Time) error {
	w.deadlines <- at
	return nil
}

func (w *stalled) Write(b []byte) (int, error) {
	if !w.stall.Load() {
		return w.recorder.Write(b)
	}
	w.writing <- struct{}{}
	<-w.deadlines
	return 0, os.ErrDeadlineExceeded
}

// A Writer that its handler forgot to close does not write into the next response on the
// connection.
func TestUnclosedWriterWritesIntoNoOtherResponse(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/forgets", func(w http.ResponseWriter, r *http.Request) {
		s, err := sse.NewWriter(w, r, nil)
		if assert.NoError(t, err) {
			assert.NoError(t, s.SendJSON("", 1))
		}
	})
	mux.HandleFunc("/next", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Minute) // in which heartbeats would come
		io.WriteString(w, "0123456789")
	})
	serve(t, mux, func(t *testing.T, n *network) {
		for range 3 {
			stream, err := n.get("/forgets").rest()
			require.NoError(t, err)
			require.Equal(t, "retry: 3000\ndata: 1\n\n", stream)
			synctest.Wait()
			answer, err := n.get("/next").rest()
			require.NoError(t, err)
			require.Equal(t, "0123456789", answer)
			synctest.Wait()
		}
		require.EqualValues(t, 1, n.dials.Load(), "all over one connection")
	}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 })
}

// A write that fails, of an event or of a heartbeat, ends the Context, and Close returns its
// error once.
func TestFailedWriteEndsTheContext(t *testing.T) {
	for _, test := range []struct {
		name  string
		sends bool
		after time.Duration // how long it takes
	}{
		{"a Send", true, 10 * time.Second},
		{"a heartbeat", false, 25 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			var returned atomic.Bool
			h := written(t, nil, func(s *sse.Writer) {
				began := time.Now()
				if test.sends {
					err := s.Send(sse.Event{Data: make([]byte, 100_000)})
					assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
					assert.Equal(t, err, s.Send(sse.Event{Data: []byte("again")}), "the error is final")
				}
				<-s.Context().Done()
				assert.Equal(t, test.after, time.Since(began))
				assert.ErrorIs(t, s.Close(), os.ErrDeadlineExceeded, "that is why the stream ended")
				assert.NoError(t, s.Close())
				assert.ErrorIs(t, s.Send(sse.Event{Data: []byte("late")}), sse.ErrClosed)
				returned.Store(true)
			})
			serve(t, h, func(t *testing.T, n *network) {
				c := n.getUnread("/")
				buf := make([]byte, 4096)
				var head string
				for !strings.Contains(nominal(head), "retry: 3000\n") { // the first block arrives
					k, err := c.Read(buf)
					require.NoError(t, err)
					head += string(buf[:k])
				}
				go func() { // what ends the chunk, which is a write of its own
					if !test.sends {
						_, _ = c.Read(buf[:2])
					}
				}()
				time.Sleep(time.Minute)
				require.True(t, returned.Load())
			})
		})
	}
}

// NewWriter whose first write fails returns a Writer: the header has been sent, and Send and
// Close return the error.
func TestFailedFirstWriteIsReportedBySend(t *testing.T) {
	gone := errors.New("gone")
	s, err := sse.NewWriter(broken{&recorder{header: http.Header{}}, gone}, httptest.NewRequest("GET", "/", nil), nil)
	require.NoError(t, err, "the header is sent: it is too late to answer")
	require.ErrorIs(t, context.Cause(s.Context()), gone)
	require.ErrorIs(t, s.Send(sse.Event{Data: []byte("x")}), gone)
	require.ErrorIs(t, s.Close(), gone)
	require.NoError(t, s.Close())
}

// broken is a ResponseWriter whose Write fails.
type broken struct {
	*recorder
	err error
}

func (w broken) Write([]byte) (int, error) { return 0, w.err }

// A Writer whose handler has returned without Close, however its Context has ended before,
// writes nothing to the response, which is net/http's again.
func TestHeartbeatsEndWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &recorder{header: http.Header{}}
		request, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequest("GET", "/", nil).WithContext(request)
		s, err := sse.NewWriter(w, r, &sse.Options{Heartbeat: time.Second, MaxAge: time.Minute})
		require.NoError(t, err)
		<-s.Context().Done() // of its age
		w.mu.Lock()
		w.returned = true
		w.mu.Unlock()
		cancel() // as net/http does
		time.Sleep(time.Hour)
		w.mu.Lock()
		defer w.mu.Unlock()
		require.NoError(t, w.misuse)
	})
}

// A Writer whose handler has returned without Close, by a panic perhaps, is not kept in
// memory until its MaxAge.
func TestWriterIsForgottenWithTheRequest(t *testing.T) {
	request, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequest("GET", "/", nil).WithContext(request)
	writer := func() weak.Pointer[sse.Writer] {
		s, err := sse.NewWriter(httptest.NewRecorder(), r, &sse.Options{Heartbeat: time.Hour, MaxAge: time.Hour})
		require.NoError(t, err)
		return weak.Make(s)
	}()
	cancel()
	require.Eventually(t, func() bool { runtime.GC(); return writer.Value() == nil }, 5*time.Second, 10*time.Millisecond)
	runtime.KeepAlive(r)
}

package sse_test

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// sink is a connection that takes everything at once.
type sink struct {
	net.Conn
	bytes *atomic.Int64
}

func (s sink) Write(b []byte) (int, error) {
	s.bytes.Add(int64(len(b)))
	return len(b), nil
}

func (sink) SetDeadline(time.Time) error      { return nil }
func (sink) SetWriteDeadline(time.Time) error { return nil }
func (sink) Close() error                     { return nil }

// sinkWriter is the ResponseWriter of a sink.
type sinkWriter struct {
	header http.Header
	sink   sink
}

func newSinkWriter(bytes *atomic.Int64) sinkWriter {
	return sinkWriter{http.Header{}, sink{bytes: bytes}}
}

func (w sinkWriter) Header() http.Header         { return w.header }
func (w sinkWriter) Write(b []byte) (int, error) { return w.sink.Write(b) }
func (w sinkWriter) WriteHeader(int)             {}
func (w sinkWriter) Flush()                      {}
func (w sinkWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.sink, nil, nil
}

// TestResumeStorm has 10,000 clients come back at once, each for 100 messages.
func TestResumeStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, missed = 10_000, 100
		var hub broadcast.Hub
		var encoded, sent atomic.Int64
		h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Detach: true, Logger: silent, Encode: func(m *broadcast.Message) (sse.Event, bool) {
			encoded.Add(1)
			return sse.Event{Data: m.Data}, true
		}}
		begin := position(t, &hub)
		data := strings.Repeat("x", 100)
		for range missed {
			publish(t, &hub, "a", data)
		}
		for range clients {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Last-Event-ID", begin)
			h.ServeHTTP(newSinkWriter(&sent), r)
		}
		synctest.Wait()
		require.Equal(t, clients, hub.Stats().Subscriptions)
		require.Greater(t, sent.Load(), int64(clients*missed*len(data)), "everybody has got everything")
		require.EqualValues(t, missed, encoded.Load(), "from the same frames")
		require.NoError(t, hub.Close())
		synctest.Wait()
	})
}

// TestIdleMemory bounds what an idle detached stream takes of heap, without its
// connection.
func TestIdleMemory(t *testing.T) {
	const streams = 10_000
	var hub broadcast.Hub
	var sent atomic.Int64
	h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Detach: true, Logger: silent}
	heap()
	before := heap()
	for range streams {
		h.ServeHTTP(newSinkWriter(&sent), httptest.NewRequest("GET", "/", nil))
	}
	require.Eventually(t, func() bool { return sent.Load() > streams*200 }, 10*time.Second, time.Millisecond)
	heap()
	each := (heap() - min(before, heap())) / streams
	t.Logf("%d bytes", each)
	require.Less(t, each, uint64(1000))
	require.Positive(t, each)
	require.NoError(t, hub.Close())
}

// BenchmarkCompressed compares a stream's event as it is with one through a middleware
// that compresses each stream by itself and flushes.
func BenchmarkCompressed(b *testing.B) {
	event := sse.Event{Data: []byte(strings.Repeat(`{"symbol":"ACME","price":42.17,"at":"2026-01-02T03:04:05Z"},`, 17))}
	for _, bm := range []struct {
		name string
		wrap func(http.Handler) http.Handler
	}{
		{"as it is", func(next http.Handler) http.Handler { return next }},
		{"compressed", middleware.Compress(5, "text/event-stream")},
	} {
		b.Run(bm.name, func(b *testing.B) {
			var sent atomic.Int64
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Accept-Encoding", "gzip")
			bm.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := sse.NewWriter(w, r, nil)
				require.NoError(b, err)
				defer s.Close()
				for b.Loop() {
					require.NoError(b, s.Send(event))
				}
			})).ServeHTTP(newSinkWriter(&sent), r)
			b.ReportMetric(float64(sent.Load())/float64(b.N), "B/event")
		})
	}
}

package sse_test

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

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

func (w sinkWriter) Header() http.Header         { return w.header }
func (w sinkWriter) Write(b []byte) (int, error) { return w.sink.Write(b) }
func (w sinkWriter) WriteHeader(int)             {}
func (w sinkWriter) Flush()                      {}

func (w sinkWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.sink, nil, nil
}

func newSinkWriter(bytes *atomic.Int64) sinkWriter {
	return sinkWriter{http.Header{}, sink{bytes: bytes}}
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

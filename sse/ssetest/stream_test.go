package ssetest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/failing"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

// A Stream returns events, counts heartbeats, resumes after its last event ID and reports a
// proper end, over HTTP/1.1 and HTTP/2.
func TestStreamReadsWhatItsHandlerSends(t *testing.T) {
	for version, name := range []string{1: "HTTP/1.1", 2: "HTTP/2"} {
		if name == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNews()
				r := get()
				r.ProtoMajor = version
				s := ssetest.Connect(t, n, r)
				require.Equal(t, 200, s.Status())
				require.Equal(t, "text/event-stream", s.Header().Get("Content-Type"))

				n.publish(t, "one")
				e := s.Next()
				require.Equal(t, "tick one", e.Type+" "+string(e.Data))
				require.Equal(t, e.ID, s.LastEventID())

				began := time.Now()
				s.Quiet(50 * time.Second)
				require.Equal(t, 50*time.Second, time.Since(began))
				require.Equal(t, 3, s.Heartbeats())

				s.Close()
				n.publish(t, "two")
				n.publish(t, "three")
				s.Reconnect()
				require.Equal(t, "two", string(s.Next().Data))
				n.publish(t, "four")

				require.NoError(t, n.Hub.Close())
				require.NoError(t, s.End(), "a proper end")
				var rest []string
				for e := range s.All() {
					rest = append(rest, string(e.Data))
				}
				require.Equal(t, []string{"three", "four"}, rest)
			})
		})
	}
}

// A Stream reads in the background, so that a test may sleep for an hour without being a slow
// client.
func TestSleepingTestIsNoSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNews()
		s := ssetest.Connect(t, n, get())
		for range 10 {
			n.publish(t, strings.Repeat("x", 1<<20-1<<10))
		}
		time.Sleep(time.Hour)
		for range 10 {
			require.Len(t, s.Next().Data, 1<<20-1<<10)
		}
		require.InDelta(t, 240, s.Heartbeats(), 1)
	})
}

// LastEventID follows positions, which are no events.
func TestLastEventIDMovesWithoutEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNews()
		s := ssetest.Connect(t, n, get())
		synctest.Wait()
		first := s.LastEventID()
		require.NotEmpty(t, first, "a stream begins with its position")
		id, err := n.Publish(t.Context(), broadcast.Message{Topic: "other"})
		require.NoError(t, err)
		s.Quiet(16 * time.Second)
		require.Equal(t, id.String(), s.LastEventID())
	})
}

// An empty id clears the last event ID (WHATWG HTML 9.2.6).
func TestEmptyIDClearsTheLastEventID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ssetest.Connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "id: 1\ndata: a\n\nid:\ndata: b\n\n")
		}), httptest.NewRequest("GET", "/", nil))
		require.NoError(t, s.End())
		require.Equal(t, "", s.LastEventID())
	})
}

// A Stream reads a compressed response, as a browser does.
func TestCompressedStreamIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := new(broadcast.Hub)
		report := failing.Said(t, func(t testing.TB) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Accept-Encoding", "gzip")
			s := ssetest.Connect(t, chimiddleware.Compress(5, "text/*")(&sse.Handler{Broadcaster: hub, Topics: []string{"a"}}), r)
			hub.Publish(context.Background(), broadcast.Message{Topic: "a", Data: []byte("x")})
			s.Next()
		})
		require.Empty(t, report)
	})
}

// End waits for another minute after each event.
func TestEndWaitsAMinuteForEachEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := failing.Said(t, func(t testing.TB) {
			s := ssetest.Connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, _ := sse.NewWriter(w, r, nil)
				defer s.Close()
				for range 3 {
					time.Sleep(40 * time.Second)
					s.Send(sse.Event{Data: []byte("x")})
				}
			}), httptest.NewRequest("GET", "/", nil))
			s.End()
		})
		require.Empty(t, report)
	})
}

package sse_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
)

// panicking is a ResponseWriter one of whose methods panics.
type panicking struct {
	http.ResponseWriter
	in string
}

func (w panicking) maybe(in string) {
	if w.in == in {
		panic(http.ErrAbortHandler)
	}
}

func (w panicking) WriteHeader(status int) {
	w.maybe("WriteHeader")
	w.ResponseWriter.WriteHeader(status)
}

func (w panicking) Write(b []byte) (int, error) {
	w.maybe("Write")
	return w.ResponseWriter.Write(b)
}

func (w panicking) Flush() {
	w.maybe("Flush")
	w.ResponseWriter.(http.Flusher).Flush()
}

func (w panicking) Header() http.Header {
	w.maybe("Header")
	return w.ResponseWriter.Header()
}

func (w panicking) SetWriteDeadline(at time.Time) error {
	w.maybe("SetWriteDeadline")
	return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(at)
}

func (w panicking) SetReadDeadline(at time.Time) error {
	w.maybe("SetReadDeadline")
	return http.NewResponseController(w.ResponseWriter).SetReadDeadline(at)
}

// watched is a ResponseWriter that counts deadlines which are set after the handler has returned.
type watched struct {
	http.ResponseWriter
	over atomic.Bool
	late *atomic.Int32
}

func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *watched) SetWriteDeadline(at time.Time) error {
	if w.over.Load() {
		w.late.Add(1)
	}
	return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(at)
}

// A panic of a wrapper where a stream begins releases what middleware holds for it: Limit's
// place, and what Drain waits for.
func TestPanicOfAWrapperReleasesEverything(t *testing.T) {
	var hub broadcast.Hub
	streams := map[string]http.Handler{
		"Writer": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, nil)
			if err == nil {
				defer s.Close()
				_ = s.Send(sse.Event{Data: []byte("x")})
			}
		}),
		"a Writer that is not closed": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, nil)
			if err == nil {
				_ = s.Send(sse.Event{Data: []byte("x")})
			}
		}),
		"Handler":             &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: silent},
		"Handler, mute":       &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: silent, Options: sse.Options{Retry: -1}},
		"Handler with Detach": detachable(&hub),
		"Handler with Abort":  &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: silent, Abort: true},
	}
	protocols := map[string]func(*network){"HTTP/1.1": func(*network) {}, "HTTP/2": overHTTP2}
	for name, stream := range streams {
		for protocol, configure := range protocols {
			for _, in := range []string{"WriteHeader", "Write", "Flush", "Header", "SetWriteDeadline", "SetReadDeadline"} {
				for _, method := range []string{"GET", "HEAD"} {
					for _, bypass := range []bool{false, true} {
						title := name + "/" + protocol + "/" + in + "/" + method
						if bypass {
							title += "/Bypass"
						}
						t.Run(title, func(t *testing.T) {
							testPanicReleases(t, stream, in, method, bypass, configure)
						})
					}
				}
			}
		}
	}
	require.Zero(t, hub.Stats().Subscriptions)
}

func testPanicReleases(t *testing.T, stream http.Handler, in, method string, bypass bool, configure func(*network)) {
	limit := &middleware.Limit{Total: 1, Plain: true, Logger: silent}
	drain := &middleware.Drain{Spread: -1, Logger: silent}
	inside := stream
	if bypass {
		inside = middleware.Bypass(stream)
	}
	var late atomic.Int32
	wrapped := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		watched := &watched{ResponseWriter: w, late: &late}
		defer watched.over.Store(true)
		inside.ServeHTTP(panicking{watched, in}, r)
	})
	serve(t, drain.Handler(limit.Handler(wrapped)), func(t *testing.T, n *network) {
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			r, err := http.NewRequestWithContext(ctx, method, "http://memory/", nil)
			require.NoError(t, err)
			if response, err := n.transport.RoundTrip(r); err == nil { // not all panics come before the header
				require.NotEqual(t, http.StatusServiceUnavailable, response.StatusCode, "the place of the last one is free")
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
			cancel()
			synctest.Wait()
		}
		began := time.Now()
		require.NoError(t, drain.Shutdown(t.Context()))
		require.Less(t, time.Since(began), time.Second, "nothing is left to wait for")
		time.Sleep(time.Minute)
		require.Zero(t, late.Load(), "deadlines of responses that were over")
	}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 }, configure)
}

// cutPanics is a ResponseWriter whose SetWriteDeadline panics once a stream has begun.
type cutPanics struct {
	http.ResponseWriter
	begun *atomic.Bool
}

func (w cutPanics) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

func (w cutPanics) SetWriteDeadline(time.Time) error {
	if w.begun.Load() {
		panic("in SetWriteDeadline")
	}
	return nil
}

// A panic of a wrapper where Drain cuts a stream is no panic of Drain. The streams do not end
// before they have been cut, so that Drain has to.
func TestDrainSurvivesAPanicOfAWrapper(t *testing.T) {
	var hub broadcast.Hub
	var cut chan struct{}
	for name, stream := range map[string]http.Handler{
		"Writer": written(t, nil, func(s *sse.Writer) { <-s.Context().Done(); <-cut }),
		"Handler": &sse.Handler{Broadcaster: &hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: []string{"a"}, Filter: func(*broadcast.Message) bool { <-cut; return true }}, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			drain := &middleware.Drain{Spread: -1, Logger: silent}
			var begun atomic.Bool
			wrapped := inWriter(stream, func(w http.ResponseWriter) http.ResponseWriter { return cutPanics{w, &begun} })
			serve(t, drain.Handler(wrapped), func(t *testing.T, n *network) {
				cut = make(chan struct{})
				s := n.get("/")
				s.expect("retry: 3000\n")
				publish(t, &hub, "a", "x")
				synctest.Wait()
				begun.Store(true)
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				require.ErrorIs(t, drain.Shutdown(ctx), context.Canceled)
				close(cut)
				_, _ = s.rest() // it ends
			}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 })
		})
	}
}

// panickingLog is the handler of a Logger that panics.
type panickingLog struct{ slog.Handler }

func (panickingLog) Enabled(context.Context, slog.Level) bool  { return true }
func (panickingLog) Handle(context.Context, slog.Record) error { panic("in the Logger") }

// A Logger that panics keeps no stream from being released, and does not end the process.
func TestPanicOfALoggerReleasesEverything(t *testing.T) {
	for name, detach := range map[string]bool{"attached": false, "detached": true} {
		t.Run(name, func(t *testing.T) {
			var hub broadcast.Hub
			limit := &middleware.Limit{Total: 1, Plain: true, Logger: silent}
			h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: slog.New(panickingLog{}), Detach: detach, Options: sse.Options{MaxAge: time.Minute},
				Encode: func(*broadcast.Message) (sse.Event, bool) { panic("in Encode") }}
			serve(t, limit.Handler(h), func(t *testing.T, n *network) {
				for range 3 {
					s := n.get("/")
					require.Equal(t, http.StatusOK, s.StatusCode, "the place of the last one is free")
					publish(t, &hub, "a", "x")
					_, _ = s.rest()
					synctest.Wait()
				}
				require.Zero(t, hub.Stats().Subscriptions)
			}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 })
		})
	}
}

// A hook that ends its goroutine, as FailNow of a test does, ends its stream, and no other.
func TestHookThatEndsItsGoroutine(t *testing.T) {
	for name, detach := range map[string]bool{"attached": false, "detached": true} {
		t.Run(name, func(t *testing.T) {
			var hub broadcast.Hub
			limit := &middleware.Limit{Total: 2, Plain: true, Logger: silent}
			h := &sse.Handler{Broadcaster: &hub, Grant: func(r *http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{r.URL.Query().Get("topic")}}, nil
			}, Logger: silent, Detach: detach,
				Encode: func(m *broadcast.Message) (sse.Event, bool) {
					if m.Topic == "exits" {
						runtime.Goexit()
					}
					return sse.Event{Data: m.Data}, true
				}}
			serve(t, limit.Handler(h), func(t *testing.T, n *network) {
				other := n.get("/?topic=a")
				for range 2 * runtime.GOMAXPROCS(0) {
					s := n.get("/?topic=exits")
					require.Equal(t, http.StatusOK, s.StatusCode, "the place of the last one is free")
					publish(t, &hub, "exits", "x")
					_, _ = s.rest()
					synctest.Wait()
				}
				publish(t, &hub, "a", "still there")
				synctest.Wait()
				require.Equal(t, 1, hub.Stats().Subscriptions)
				require.NoError(t, hub.Close())
				text, _ := other.rest()
				require.Contains(t, text, "data: still there\n")
			}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 })
		})
	}
}

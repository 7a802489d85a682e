package middleware_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// ready asks as a load balancer does.
func ready(d *middleware.Drain) int {
	w := httptest.NewRecorder()
	d.Ready(w, get("/ready"))
	return w.Code
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		var log strings.Builder
		drain := &middleware.Drain{Delay: 5 * time.Second, Spread: 20 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		events := drain.Handler(news(&hub))
		socket := drain.Handler(&ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Encode: ws.Raw, Logger: silent})
		require.Equal(t, 200, ready(drain))

		began := time.Now()
		ends := make(chan time.Duration, 100)
		var reading sync.WaitGroup
		for range 50 {
			s := ssetest.Connect(t, events, get("/"))
			reading.Go(func() {
				assert.NoError(t, s.End())
				ends <- time.Since(began)
			})
			c := wstest.Dial(t, socket, get("/"))
			reading.Go(func() {
				_, _, err := c.Read(context.Background())
				assert.Equal(t, ws.StatusServiceRestart, ws.CloseStatus(err))
				ends <- time.Since(began)
			})
		}
		shut := make(chan error, 1)
		go func() { shut <- drain.Shutdown(context.Background()) }()
		synctest.Wait()

		require.Equal(t, 503, ready(drain), "at once")
		time.Sleep(4 * time.Second)
		late := ssetest.Connect(t, events, get("/"))
		require.Equal(t, 200, late.Status(), "load balancers have not noticed yet")
		time.Sleep(2 * time.Second)
		require.Equal(t, 503, ssetest.Connect(t, events, get("/")).Status())
		r := get("/")
		r.Header = http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}}
		require.Equal(t, 200, ssetest.Connect(t, events, r).Status(), "an EventSource comes back")

		require.NoError(t, <-shut)
		require.Equal(t, 25*time.Second, time.Since(began))
		require.NoError(t, late.End())
		reading.Wait()
		close(ends)
		var at []float64
		for end := range ends {
			at = append(at, end.Seconds())
		}
		slices.Sort(at)
		require.Len(t, at, 100)
		for i, second := range at {
			require.InDelta(t, 5+20*float64(i+1)/101, second, 0.3, "one after the other")
		}
		require.Zero(t, hub.Stats().Subscriptions)
		require.Contains(t, log.String(), "shutting down")
		require.NoError(t, drain.Shutdown(t.Context()), "a second one has nothing left to do")
	})
}

// TestDrainOwes has each client get what was published before its end.
func TestDrainOwes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		drain := &middleware.Drain{Spread: -1}
		var link faults.Link
		s := ssetest.Connect(t, drain.Handler(news(&hub)), faults.Via(get("/"), &link))
		link.Stall() // for a moment
		for i := range 100 {
			say(t, &hub, fmt.Sprint(i, strings.Repeat(" ", 2000)))
		}
		time.AfterFunc(time.Second, link.Resume)
		require.NoError(t, drain.Shutdown(t.Context()))
		n := 0
		for e := range s.All() {
			require.Equal(t, fmt.Sprint(n), strings.TrimSpace(string(e.Data)))
			n++
		}
		require.Equal(t, 100, n)
		require.NoError(t, s.End())
	})
}

// TestDrainOfClientsThatNeverRead cuts them: by WriteTimeout, or when its time is over.
func TestDrainOfClientsThatNeverRead(t *testing.T) {
	for _, test := range []struct {
		name   string
		ctx    time.Duration
		within time.Duration
		err    error
	}{
		{"with time enough", time.Minute, 20 * time.Second, nil},
		{"without", 5 * time.Second, 5 * time.Second, context.DeadlineExceeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				drain := &middleware.Drain{}
				socket := &ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent}
				for _, h := range []http.Handler{news(&hub), socket} {
					for range 5 {
						var link faults.Link
						if h == http.Handler(socket) {
							wstest.Dial(t, drain.Handler(h), faults.Via(get("/"), &link))
						} else {
							ssetest.Connect(t, drain.Handler(h), faults.Via(get("/"), &link))
						}
						link.Stall()
					}
				}
				say(t, &hub, strings.Repeat("x", 200<<10))
				synctest.Wait()
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), test.ctx)
				defer cancel()
				require.ErrorIs(t, drain.Shutdown(ctx), test.err)
				require.LessOrEqual(t, time.Since(began), test.within)
				time.Sleep(100 * time.Millisecond)
				require.Zero(t, hub.Stats().Subscriptions)
			})
		})
	}
}

// TestDrainTwice has a second Shutdown while the first is on its way.
func TestDrainTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		drain := &middleware.Drain{Spread: 10 * time.Second}
		ssetest.Connect(t, drain.Handler(news(&hub)), get("/"))
		began := time.Now()
		first := make(chan error, 1)
		go func() { first <- drain.Shutdown(context.Background()) }()
		synctest.Wait()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, drain.Shutdown(impatient), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
		require.Equal(t, 1, hub.Stats().Subscriptions, "it has cut nobody")
		require.NoError(t, drain.Shutdown(t.Context()))
		require.Equal(t, 10*time.Second, time.Since(began))
		require.NoError(t, <-first)
	})
}

// TestDrainPanics has a handler panic: nobody waits for it.
func TestDrainPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := &middleware.Drain{}
		h := drain.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("below a Drain") }))
		require.Panics(t, func() { h.ServeHTTP(httptest.NewRecorder(), get("/")) })
		require.NoError(t, drain.Shutdown(t.Context()))
	})
}

// TestDrainWaitsForOthers has a request that is no stream.
func TestDrainWaitsForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := &middleware.Drain{}
		h := drain.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Minute) }))
		began := time.Now()
		go h.ServeHTTP(httptest.NewRecorder(), get("/"))
		synctest.Wait()
		require.NoError(t, drain.Shutdown(t.Context()))
		require.Equal(t, time.Minute, time.Since(began))
	})
}

// TestDrainThenServerShutdown has a thousand streams of all kinds end within the
// window, after which the server has nothing left to wait for.
func TestDrainThenServerShutdown(t *testing.T) {
	const streams, window = 1000, 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		synctest.Wait()
		before := runtime.NumGoroutine()
		var hub broadcast.Hub
		drain := &middleware.Drain{Spread: window, Logger: silent}
		mux := http.NewServeMux()
		mux.Handle("/sse", news(&hub))
		mux.Handle("/ws", &ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent})
		mux.HandleFunc("/writer", func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.NewWriter(w, r, nil)
			if assert.NoError(t, err) {
				defer s.Close()
				<-s.Context().Done()
			}
		})
		mux.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) {
			if c, err := ws.Upgrade(w, r, nil); assert.NoError(t, err) {
				c.CloseRead()
				<-c.Context().Done()
			}
		})
		server := memnet.NewServer(drain.Handler(mux), get("/"), new(faults.Link))
		memnet.Serve(t, server)
		client := server.Client()
		for i := range streams {
			switch path := []string{"/sse", "/ws", "/writer", "/upgrade"}[i%4]; path {
			case "/ws", "/upgrade":
				c, err := ws.Dial(t.Context(), "http://example.com"+path, &ws.DialOptions{HTTPClient: client})
				require.NoError(t, err)
				c.ReadAhead(-1)
			default:
				response, err := client.Do(memnet.ClientRequest(t.Context(), get(path)))
				require.NoError(t, err)
				go func() {
					defer response.Body.Close()
					for range sse.NewReader(response.Body).All() {
					}
				}()
			}
		}
		synctest.Wait()
		require.Equal(t, streams/2, hub.Stats().Subscriptions)

		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, drain.Shutdown(ctx))
		require.NoError(t, server.Shutdown(ctx))
		require.LessOrEqual(t, time.Since(began), window+time.Second)
		require.Zero(t, hub.Stats().Subscriptions)
		client.CloseIdleConnections()
		synctest.Wait()
		require.LessOrEqual(t, runtime.NumGoroutine(), before+1, "all goroutines have ended")
	})
}

// TestPlainShutdown has no Drain: http.Server's own ends the streams of the handlers.
func TestPlainShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		server := memnet.NewServer(news(&hub), get("/"), new(faults.Link))
		memnet.Serve(t, server)
		for range 100 {
			response, err := server.Client().Do(memnet.ClientRequest(t.Context(), get("/")))
			require.NoError(t, err)
			go func() {
				defer response.Body.Close()
				for range sse.NewReader(response.Body).All() {
				}
			}()
		}
		began := time.Now()
		require.NoError(t, server.Shutdown(t.Context()))
		require.Less(t, time.Since(began), time.Second)
		server.Client().CloseIdleConnections()
	})
}

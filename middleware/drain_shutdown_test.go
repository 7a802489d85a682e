package middleware_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/longtest"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
)

// A second Shutdown waits for the first one, or for its own ctx, and cuts nothing.
func TestShutdownTwice(t *testing.T) {
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
		require.Equal(t, 1, hub.Stats().Subscriptions, "it has cut nothing")
		require.NoError(t, drain.Shutdown(t.Context()))
		require.Equal(t, 10*time.Second, time.Since(began))
		require.NoError(t, <-first)
	})
}

// Shutdown returns the error of its ctx, not the cause.
func TestShutdownReturnsTheErrorOfCtx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := &middleware.Drain{Logger: silent, Spread: -1}
		go func() {
			drain.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Hour) })).ServeHTTP(httptest.NewRecorder(), get("/"))
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, io.ErrNoProgress)
		defer cancel()
		assert.ErrorIs(t, drain.Shutdown(ctx), context.DeadlineExceeded)
		time.Sleep(2 * time.Hour)
	})
}

// Shutdown succeeds if there is nothing to drain, also when ctx has ended.
func TestShutdownWithNothingToDrain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 200 { // both are ready at once: a select would choose at random
		require.NoError(t, (&middleware.Drain{}).Shutdown(ctx))
	}
}

// Shutdown returns once all streams have ended, even if Spread is not over.
func TestShutdownReturnsOnceAllStreamsHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		drain := &middleware.Drain{Spread: time.Hour, Logger: silent}
		a := ssetest.Connect(t, drain.Handler(news(&hub)), get("/"))
		b := ssetest.Connect(t, drain.Handler(news(&hub)), get("/"))
		a.Status()
		b.Status()
		began := time.Now()
		time.AfterFunc(time.Second, func() { a.Close(); b.Close() })
		require.NoError(t, drain.Shutdown(t.Context()))
		require.Less(t, time.Since(began), 10*time.Second)
	})
}

// Shutdown waits for requests that are not streams.
func TestShutdownWaitsForOtherRequests(t *testing.T) {
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

// Shutdown does not wait for a handler that has panicked.
func TestShutdownAfterAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := &middleware.Drain{}
		h := drain.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("below a Drain") }))
		require.Panics(t, func() { h.ServeHTTP(httptest.NewRecorder(), get("/")) })
		require.NoError(t, drain.Shutdown(t.Context()))
	})
}

// After a Drain http.Server.Shutdown has no stream of any kind left to wait for.
func TestServerShutdownAfterDrain(t *testing.T) {
	const window = 10 * time.Second
	streams := 200
	if longtest.Enabled() {
		streams = 1000
	}
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

// Without a Drain http.Server.Shutdown ends the streams of the handlers itself.
func TestServerShutdownWithoutDrain(t *testing.T) {
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

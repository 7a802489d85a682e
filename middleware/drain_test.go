package middleware_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
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

// ready returns the status that a load balancer gets.
func ready(d *middleware.Drain) int {
	w := httptest.NewRecorder()
	d.Ready(w, get("/ready"))
	return w.Code
}

// Shutdown makes Ready say no at once, refuses new streams after Delay, and ends the open
// ones at equal intervals over Spread.
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
		require.Equal(t, 200, ssetest.Connect(t, events, r).Status(), "an EventSource is to come back")

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
			require.InDelta(t, 5+20*float64(i+1)/101, second, 0.3, "at equal intervals")
		}
		require.Zero(t, hub.Stats().Subscriptions)
		require.Contains(t, log.String(), "shutting down")
		require.NoError(t, drain.Shutdown(t.Context()), "nothing is left to do")
	})
}

// A client gets all that was published before its stream is asked to end.
func TestDrainSendsPendingMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		drain := &middleware.Drain{Spread: -1}
		var link faults.Link
		s := ssetest.Connect(t, drain.Handler(news(&hub)), faults.Via(get("/"), &link))
		link.Stall()
		for i := range 100 {
			publish(t, &hub, fmt.Sprint(i, strings.Repeat(" ", 2000)))
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

// A client that never reads is cut after WriteTimeout, or when the ctx of Shutdown ends.
func TestDrainOfClientsThatNeverRead(t *testing.T) {
	for _, test := range []struct {
		name   string
		ctx    time.Duration
		within time.Duration
		err    error
	}{
		{"before its deadline", time.Minute, 20 * time.Second, nil},
		{"at its deadline", 5 * time.Second, 5 * time.Second, context.DeadlineExceeded},
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
				publish(t, &hub, strings.Repeat("x", 200<<10))
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

// The intervals are equal for any Spread, also where its product with the number of
// streams is more than a Duration.
func TestDrainHugeSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		h := news(&hub)
		h.Options.Heartbeat = -1
		drain := &middleware.Drain{Spread: 100 * 365 * 24 * time.Hour, Logger: silent}
		for range 4 {
			ssetest.Connect(t, drain.Handler(h), get("/")).Status()
		}
		go drain.Shutdown(t.Context())
		left := []int{}
		for range 4 {
			left = append(left, hub.Stats().Subscriptions)
			time.Sleep(25*365*24*time.Hour + time.Minute)
		}
		require.Equal(t, []int{4, 3, 2, 1}, left)
		time.Sleep(time.Hour)
	})
}

// A refused client does not keep its connection, on which it would be refused again.
func TestDrainClosesRefusedConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		drain := &middleware.Drain{Spread: time.Minute, Logger: silent}
		l := memnet.Listen()
		server := &http.Server{Handler: drain.Handler(news(&hub))}
		go server.Serve(l)
		defer server.Close()
		stay := ssetest.Connect(t, drain.Handler(news(&hub)), get("/"))
		stay.Status()
		go drain.Shutdown(t.Context())
		synctest.Wait()
		conn, err := l.DialContext(t.Context(), "", "")
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET /news HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n\r\n")
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		b, _ := io.ReadAll(response.Body)
		require.Contains(t, string(b), "retry:")
		require.True(t, response.Close, "a balancer of connections chooses a server for a new one only")
	})
}

// A stream whose handler was timed out while it began is ended and waited for like any
// other.
func TestDrainOfAStreamThatOutlivesATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		drain := &middleware.Drain{Logger: silent}
		h := &ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent,
			Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
				time.Sleep(40 * time.Second)
				return func(ws.MessageType, []byte) error { return nil }
			}}
		chain := middleware.Bypass(drain.Handler(http.TimeoutHandler(h, 30*time.Second, "too late")))
		c := wstest.Dial(t, chain, get("/"))
		time.Sleep(time.Minute)
		ended := make(chan error, 1)
		go func() {
			for {
				if _, _, err := c.Read(context.Background()); err != nil {
					ended <- err
					return
				}
			}
		}()
		require.NoError(t, drain.Shutdown(t.Context()))
		synctest.Wait()
		select {
		case err := <-ended:
			require.Equal(t, ws.StatusServiceRestart, ws.CloseStatus(err))
		default:
			t.Error("Shutdown has returned while the stream is open")
		}
		c.Close(ws.StatusNormalClosure, "")
		synctest.Wait()
	})
}

// A Writer that begins after Shutdown has cut its request is cut, too.
func TestDrainCutsAWriterThatBeginsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain := &middleware.Drain{Logger: silent, Spread: -1}
		done := make(chan struct{})
		began := time.Now()
		var took time.Duration
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(done)
			time.Sleep(10 * time.Second) // longer than Shutdown's ctx
			began = time.Now()
			s, err := sse.NewWriter(w, r, &sse.Options{WriteTimeout: time.Hour})
			if err == nil {
				s.Send(sse.Event{Data: []byte("x")})
				s.Close()
			}
			took = time.Since(began)
		})
		// The client does not read.
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			time.Sleep(time.Second)
			drain.Shutdown(ctx)
		}()
		l := memnet.Listen()
		srv := &http.Server{Handler: drain.Handler(h), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		go srv.Serve(l)
		defer srv.Close()
		conn, err := l.DialContext(t.Context(), "", "")
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		<-done
		require.Less(t, took, time.Minute, "it was cut")
	})
}

package sse_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// However a stream ends, its subscription is closed, its request's context ends, and its
// reason is logged once.
func TestStreamEndsOnceWithAReason(t *testing.T) {
	type end struct {
		*network
		s   *stream
		hub *broadcast.Hub
	}
	for _, test := range []struct {
		name, why string
		target    string
		options   sse.Options
		end       func(e end)
		reason    string
		cut       bool          // the response has no proper end
		after     time.Duration // from the beginning; 0: at once
		atMost    time.Duration
	}{
		{name: "the Grant expires", why: "with the token that opened it", target: "/expires",
			reason: "expired", after: 20 * time.Second},
		{name: "MaxAge", why: "the client moves on to a new server", options: sse.Options{MaxAge: 100 * time.Second},
			reason: "restart", after: 80 * time.Second, atMost: 100 * time.Second},
		{name: "Hub.Close", why: "no more messages can arrive",
			end: func(e end) { require.NoError(e.t, e.hub.Close()) }, reason: "restart"},
		{name: "Server.Shutdown", why: "Shutdown waits for all handlers",
			end: func(e end) { require.NoError(e.t, e.server.Shutdown(e.t.Context())) }, reason: "restart", atMost: time.Second},
		{name: "the client leaves", why: "there is no client any more",
			end: func(e end) { e.s.cancel() }, reason: "request ended", cut: true},
		{name: "Server.Close", why: "the connection is gone",
			end: func(e end) { e.server.Close() }, reason: "request ended", cut: true},
		{name: "a middleware ends the context", why: "a middleware ends a stream by its context", target: "/middleware",
			reason: "request ended", after: 20 * time.Second},
		{name: "a deadline on the context", why: "it ends the context", target: "/deadline",
			reason: "request ended", after: 20 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			var hub broadcast.Hub
			var left atomic.Int32
			log := &logbook{}
			h := &sse.Handler{Broadcaster: &hub, Options: test.options, Logger: log.logger(), Grant: func(r *http.Request) (*fanfare.Grant, error) {
				context.AfterFunc(r.Context(), func() { left.Add(1) })
				g := &fanfare.Grant{Topics: []string{"a"}}
				if r.URL.Path == "/expires" {
					g.Expires = time.Now().Add(20 * time.Second)
				}
				return g, nil
			}}
			returned := false
			middleware := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/middleware":
					ctx, cancel := context.WithCancel(r.Context())
					time.AfterFunc(20*time.Second, cancel)
					r = r.WithContext(ctx)
				case "/deadline":
					ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
					defer cancel()
					r = r.WithContext(ctx)
				}
				h.ServeHTTP(w, r)
				returned = true
			})
			serve(t, middleware, func(t *testing.T, n *network) {
				s := n.get("/" + strings.TrimPrefix(test.target, "/"))
				began := time.Now()
				id := s.expectBegin()
				require.Zero(t, left.Load())
				require.Equal(t, 1, hub.Stats().Subscriptions)
				if test.end != nil {
					test.end(end{n, s, &hub})
				}
				rest, err := s.rest()
				require.Equal(t, test.cut, err != nil, test.why)
				require.Empty(t, strings.ReplaceAll(rest, ":\n", ""))
				took := time.Since(began)
				require.GreaterOrEqual(t, took, test.after)
				require.LessOrEqual(t, took, max(test.after, test.atMost))

				synctest.Wait()
				require.True(t, returned)
				require.EqualValues(t, 1, left.Load(), "once")
				require.Zero(t, hub.Stats().Subscriptions)
				time.Sleep(time.Hour) // nor later on
				require.EqualValues(t, 1, left.Load(), "once")
				lines := log.with("stream ended")
				require.Len(t, lines, 1)
				require.Equal(t, test.reason, lines[0]["reason"])
				require.Equal(t, "DEBUG", lines[0]["level"])
				require.Equal(t, id, lines[0]["position"])
			})
		})
	}
}

// A stream that is asked to end first sends what is in the log by then, and nothing that comes
// later.
func TestPendingMessagesPrecedeTheEnd(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(n *network, hub *broadcast.Hub)
		more bool // is published by others afterwards
	}{
		{"Hub.Close", func(n *network, hub *broadcast.Hub) { hub.Close() }, false},
		{"Server.Shutdown", func(n *network, hub *broadcast.Hub) { go n.server.Shutdown(n.t.Context()) }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			const messages = 1000
			hub := broadcast.Hub{Keep: 2 * messages}
			h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}}
			serve(t, h, func(t *testing.T, n *network) {
				c := n.getUnread("/")
				synctest.Wait()
				var last string
				for i := range messages {
					last = publish(t, &hub, "a", strconv.Itoa(i))
				}
				synctest.Wait() // the stream has only begun, and waits for its client
				test.end(n, &hub)
				synctest.Wait()
				if test.more {
					for range messages {
						publish(t, &hub, "a", "late")
					}
				}
				response, err := http.ReadResponse(bufio.NewReader(c), nil)
				require.NoError(t, err)
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				all, lastEventID := events(t, string(body))
				require.Len(t, all, messages, "all that was in the log, and nothing that was published later")
				require.Equal(t, last, lastEventID)
				synctest.Wait()
				require.Zero(t, hub.Stats().Subscriptions)
			})
		})
	}
}

// Streams that began together end between 80 and 100 % of MaxAge, spread over that fifth.
func TestMaxAgeSpreadsTheEnds(t *testing.T) {
	var hub broadcast.Hub
	h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Options: sse.Options{MaxAge: 1000 * time.Second}}
	serve(t, h, func(t *testing.T, n *network) {
		began := time.Now()
		var mu sync.Mutex
		var ages []time.Duration
		var all sync.WaitGroup
		for range 200 {
			s := n.get("/")
			all.Go(func() {
				_, err := s.rest()
				assert.NoError(t, err)
				mu.Lock()
				defer mu.Unlock()
				ages = append(ages, time.Since(began))
			})
		}
		all.Wait()
		slices.Sort(ages)
		assert.GreaterOrEqual(t, ages[0], 800*time.Second)
		assert.LessOrEqual(t, ages[len(ages)-1], 1000*time.Second)
		assert.Less(t, ages[10], 850*time.Second, "the ends are spread over the fifth")
		assert.Greater(t, ages[len(ages)-10], 950*time.Second, "the ends are spread over the fifth")
	})
}

// At Expires a stream finishes the write that is under way, and sends nothing else.
func TestNothingIsSentAfterExpires(t *testing.T) {
	hub := broadcast.Hub{}
	expires := 5500 * time.Millisecond
	h := &sse.Handler{Broadcaster: &hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(expires)}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		begin := position(t, &hub)
		for range 100 {
			publish(t, &hub, "a", string(bytes.Repeat([]byte("x"), 200<<10)))
		}
		c, err := n.listener.DialContext(t.Context(), "", "")
		require.NoError(t, err)
		defer c.Close()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nLast-Event-ID: "+begin+"\r\n\r\n")
		began := time.Now()
		var after int
		buf := make([]byte, 64<<10)
		for {
			k, err := c.Read(buf)
			if time.Since(began) > expires {
				after += k
			}
			if err != nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("the stream went on for %v after Expires, %d messages of 200 KiB", time.Since(began)-expires, after/(200<<10))
		assert.LessOrEqual(t, after, 600<<10)
	})
}

// A Subscription whose Close panics does not end the process.
func TestPanicInSubscriptionCloseIsRecovered(t *testing.T) {
	h := &sse.Handler{Broadcaster: &closePanics{scripted{begin: broadcast.MakeID(7, 1)}}, Topics: []string{"a"}, Logger: silent}
	serve(t, h, func(t *testing.T, n *network) {
		s := n.get("/")
		s.expectBegin()
		s.cancel()
		time.Sleep(time.Second)
	})
}

type closePanics struct{ scripted }

func (c *closePanics) Close() error { panic("Subscription.Close") }

func (c *closePanics) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	c.scripted.Subscribe(ctx, o)
	return c, nil
}

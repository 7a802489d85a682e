package sse_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
)

// A detached response is valid HTTP/1.1: a head with the headers set before, chunks, and the
// last chunk.
func TestDetachedResponseIsCompleteHTTP(t *testing.T) {
	var hub broadcast.Hub
	h := detachable(&hub)
	cookie := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "a=b")
		w.Header().Add("Set-Cookie", "c=d\r\nX-Forged: yes")
		w.Header().Set("Content-Length", "10")
		h.ServeHTTP(w, r)
	})
	serve(t, cookie, func(t *testing.T, n *network) {
		begin := position(t, &hub)
		c, err := n.listener.DialContext(t.Context(), "", "")
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		r := bufio.NewReader(c)
		response, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		require.Equal(t, 200, response.StatusCode)
		require.Equal(t, []string{"chunked"}, response.TransferEncoding)
		require.True(t, response.Close)
		require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
		require.Equal(t, "no-store, no-transform", response.Header.Get("Cache-Control"))
		require.Equal(t, "no", response.Header.Get("X-Accel-Buffering"))
		require.NotEmpty(t, response.Header.Get("Date"))
		require.Empty(t, response.Header.Get("Content-Length"))
		require.Empty(t, response.Header.Get("X-Forged"))
		require.Equal(t, []string{"a=b", "c=d  X-Forged: yes"}, response.Header["Set-Cookie"])

		body := make(chan string, 1)
		go func() {
			b, err := io.ReadAll(response.Body)
			assert.NoError(t, err, "a proper end")
			body <- string(b)
		}()
		one := publish(t, &hub, "a", "one")
		time.Sleep(15 * time.Second) // four heartbeats
		two := publish(t, &hub, "a", "two")
		synctest.Wait()
		require.NoError(t, hub.Close())
		require.Equal(t, "retry: 3000\nid: "+begin+"\n\n"+tick(one, "one")+strings.Repeat(":\n", 4)+tick(two, "two"), nominal(<-body))
		_, err = r.ReadByte()
		require.Equal(t, io.EOF, err, "the connection is closed")
	})
}

// goroutines returns the number of goroutines in the bubble.
func goroutines() int {
	buf := make([]byte, 4<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "synctest bubble")
}

// An idle detached stream has no goroutine, and leaves none when it has ended.
func TestIdleDetachedStreamHasNoGoroutine(t *testing.T) {
	var hub broadcast.Hub
	serve(t, detachable(&hub), func(t *testing.T, n *network) {
		synctest.Wait()
		before := goroutines()
		const streams = 50
		conns := make([]io.Closer, streams)
		for i := range conns {
			c, err := n.listener.DialContext(t.Context(), "", "")
			require.NoError(t, err)
			_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, err)
			_, err = io.ReadFull(c, make([]byte, 300))
			require.NoError(t, err)
			conns[i] = c
			go io.Copy(io.Discard, c)
		}
		synctest.Wait()
		require.Equal(t, streams, hub.Stats().Subscriptions)
		require.Equal(t, before+streams, goroutines(), "only the goroutines of this test are new")
		for _, c := range conns {
			c.Close()
		}
		time.Sleep(31 * time.Second) // two heartbeats
		require.Zero(t, hub.Stats().Subscriptions)
		require.Equal(t, before, goroutines())
	})
}

// An idle detached stream takes less than a KB of heap, without its connection.
func TestIdleDetachedStreamTakesLessThanAKilobyte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in which the first heartbeats do not come meanwhile
		const streams = 10_000
		var hub broadcast.Hub
		var sent atomic.Int64
		h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Detach: true, Logger: silent}
		heap()
		before := heap()
		for range streams {
			h.ServeHTTP(newSinkWriter(&sent), httptest.NewRequest("GET", "/", nil))
		}
		synctest.Wait()
		require.Greater(t, sent.Load(), int64(streams*200))
		heap()
		each := (heap() - min(before, heap())) / streams
		t.Logf("%d bytes", each)
		require.Less(t, each, uint64(1000))
		require.Positive(t, each)
		require.NoError(t, hub.Close())
	})
}

// A detached stream ends for every reason that an attached one has, and counts for Limit and
// Drain until then.
func TestDetachedStreamEndsLikeAnyOther(t *testing.T) {
	for _, test := range []struct {
		name   string
		do     func(*broadcast.Hub, *faults.Link, *middleware.Drain, *middleware.Sessions)
		within time.Duration
		proper bool
	}{
		{"Hub.Close", func(hub *broadcast.Hub, _ *faults.Link, _ *middleware.Drain, _ *middleware.Sessions) { hub.Close() }, 0, true},
		{"a Drain", func(_ *broadcast.Hub, _ *faults.Link, d *middleware.Drain, _ *middleware.Sessions) {
			go d.Shutdown(context.Background())
		}, 0, true},
		{"a Disconnect", func(_ *broadcast.Hub, _ *faults.Link, _ *middleware.Drain, s *middleware.Sessions) {
			s.Disconnect("everybody", 0, "")
		}, 0, true},
		{"Expires", func(*broadcast.Hub, *faults.Link, *middleware.Drain, *middleware.Sessions) {}, time.Minute, true},
		{"a client that vanishes", func(_ *broadcast.Hub, link *faults.Link, _ *middleware.Drain, _ *middleware.Sessions) { link.Vanish() }, 45 * time.Second, false},
		{"a client that leaves", func(_ *broadcast.Hub, link *faults.Link, _ *middleware.Drain, _ *middleware.Sessions) { link.Cut() }, 31 * time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				var link faults.Link
				left := make(chan struct{})
				drain := &middleware.Drain{Spread: -1}
				limit := &middleware.Limit{Total: 1, Logger: silent}
				sessions := &middleware.Sessions{Key: func(*http.Request) string { return "everybody" }}
				h := detachable(&hub)
				h.Grant = func(r *http.Request) (*fanfare.Grant, error) {
					context.AfterFunc(r.Context(), func() { close(left) })
					return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(time.Minute)}, nil
				}
				s := ssetest.Connect(t, middleware.Bypass(drain.Handler(limit.Handler(sessions.Handler(h)))), faults.Via(request("GET", "/"), &link))
				publish(t, &hub, "a", "first")
				require.Equal(t, "first", string(s.Next().Data))
				time.Sleep(time.Second)
				refused := ssetest.Connect(t, limit.Handler(detachable(&hub)), request("GET", "/"))
				require.Equal(t, 503, refused.Status(), "the stream counts until it has ended")

				began := time.Now()
				test.do(&hub, &link, drain, sessions)
				<-left
				synctest.Wait()
				require.LessOrEqual(t, time.Since(began), test.within)
				require.Zero(t, hub.Stats().Subscriptions)
				require.NoError(t, drain.Shutdown(t.Context()), "no stream is left to wait for")
				if test.name == "a client that vanishes" {
					return
				}
				require.Equal(t, test.proper, s.End() == nil)
				require.Zero(t, sessions.Streams("everybody"), "it no longer counts")
				again := ssetest.Connect(t, limit.Handler(detachable(new(broadcast.Hub))), request("GET", "/"))
				require.Equal(t, 200, again.Status(), "nor for Limit")
			})
		})
	}
}

// A detached stream that is cut within an event does not look complete, and the client resumes
// with the whole event.
func TestDetachedStreamResumesAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		var link faults.Link
		s := ssetest.Connect(t, detachable(&hub), faults.Via(request("GET", "/"), &link))
		publish(t, &hub, "a", "first")
		require.Equal(t, "first", string(s.Next().Data))
		link.CutAfter(1000)
		publish(t, &hub, "a", strings.Repeat("x", 5000))
		require.Error(t, s.End(), "a cut is no proper end")
		publish(t, &hub, "a", "last")
		s.Reconnect()
		require.Len(t, s.Next().Data, 5000)
		require.Equal(t, "last", string(s.Next().Data))
	})
}

// HTTP/2, HEAD and a wrapper that hides the connection are streamed attached.
func TestStreamThatCannotBeDetachedStaysAttached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		r := request("GET", "/")
		r.ProtoMajor = 2
		s := ssetest.Connect(t, detachable(&hub), r)
		publish(t, &hub, "a", "over HTTP/2")
		require.Equal(t, "over HTTP/2", string(s.Next().Data))

		// A wrapper that hides the connection, but flushes.
		s = ssetest.Connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			detachable(&hub).ServeHTTP(flushOnly{w}, r)
		}), request("GET", "/"))
		publish(t, &hub, "a", "attached")
		require.Equal(t, "attached", string(s.Next().Data))
		require.Equal(t, 200, ssetest.Connect(t, detachable(&hub), request("HEAD", "/")).Status())
	})
}

// A detached client that does not read is cut by WriteTimeout.
func TestDetachedClientThatNeverReadsIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		var link faults.Link
		ssetest.Connect(t, detachable(&hub), faults.Via(request("GET", "/"), &link))
		link.Stall()
		publish(t, &hub, "a", strings.Repeat("x", 200<<10))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Zero(t, hub.Stats().Subscriptions)
	})
}

// The head of a detached response is sent although the stream ends before its first write.
func TestHeadPrecedesTheEnd(t *testing.T) {
	var hub broadcast.Hub
	h := detachable(&hub)
	h.Broadcaster = slowHub{&hub}
	h.Grant = func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(20 * time.Millisecond)}, nil
	}
	serve(t, h, func(t *testing.T, n *network) {
		begin := position(t, &hub)
		first := n.getUnread("/") // the clock of the handler runs from here on
		defer first.Close()
		time.Sleep(time.Second)
		for range 16 {
			publish(t, &hub, "a", "x")
		}
		c, err := n.listener.DialContext(t.Context(), "", "")
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nLast-Event-ID: "+begin+"\r\n\r\n")
		require.NoError(t, err)
		all, _ := io.ReadAll(c)
		require.Contains(t, string(all), "HTTP/1.1 200 OK\r\n", "all that the client got: %q", all)
	})
}

// slowHub is a Hub whose Subscribe takes 50 ms, as it may when it reads a journal.
type slowHub struct{ *broadcast.Hub }

func (h slowHub) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	time.Sleep(50 * time.Millisecond)
	return h.Hub.Subscribe(ctx, o)
}

// A heartbeat that is due before the head of a detached response was sent waits for it.
func TestHeadPrecedesTheFirstHeartbeat(t *testing.T) {
	var hub broadcast.Hub
	h := detachable(&hub)
	h.Grant = func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Filter: func(*broadcast.Message) bool {
			time.Sleep(time.Second)
			return true
		}}, nil
	}
	serve(t, h, func(t *testing.T, n *network) {
		begin := position(t, &hub)
		for range 16 + 64 { // as many as the first two Polls return
			publish(t, &hub, "a", "x")
		}
		c, err := n.listener.DialContext(t.Context(), "", "")
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nLast-Event-ID: "+begin+"\r\n\r\n")
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		require.Equal(t, 200, response.StatusCode)
	})
}

// A request with a body stays attached: nothing would read the body, and closing the
// connection would then reset it and drop what was sent last.
func TestRequestWithABodyStaysAttached(t *testing.T) {
	var hub broadcast.Hub
	serve(t, detachable(&hub), func(t *testing.T, n *network) {
		s := n.do("GET", "/", strings.NewReader("hello"))
		require.False(t, s.Close, "it is attached")
		require.NoError(t, hub.Close())
		_, err := s.rest()
		require.NoError(t, err)
	})
}

// What a client sends after its request is discarded at the end, so that closing the
// connection does not reset it.
func TestPipelinedRequestDoesNotResetADetachedStream(t *testing.T) {
	var hub broadcast.Hub
	server := httptest.NewServer(detachable(&hub))
	defer server.Close()
	for range 20 {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		r := bufio.NewReader(c)
		response, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		_, err = io.WriteString(c, "GET /another HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		defer func() {
			_, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			_, err = r.ReadByte()
			require.Equal(t, io.EOF, err)
		}()
	}
	require.NoError(t, hub.Close())
}

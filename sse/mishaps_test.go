package sse_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
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

// net/http reads what is left of a request's body before it sends a header: a body
// that does not come must not hold a stream for ever.
func TestBodyThatNeverComes(t *testing.T) {
	var hub broadcast.Hub
	h := &sse.Handler{Broadcaster: &hub, Logger: silent, Options: sse.Options{MaxAge: time.Minute}, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(20 * time.Second)}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		c, err := n.listener.DialContext(t.Context(), "", "")
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
		require.NoError(t, err)
		got := make(chan int, 1)
		go func() { k, _ := c.Read(make([]byte, 1000)); got <- k }()
		time.Sleep(24 * time.Hour)
		select {
		case k := <-got:
			t.Log("client got bytes:", k)
		default:
			t.Error("client has got nothing in a day")
		}
		assert.Zero(t, hub.Stats().Subscriptions, "Expires 20 s, MaxAge 1 min, ReadTimeout 1 s, WriteTimeout 10 s: after a day")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		assert.NoError(t, n.server.Shutdown(ctx), "Shutdown")
	})
}

// The same before a Writer.
func TestWriterOfBodyThatNeverComes(t *testing.T) {
	var returned atomic.Bool
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer returned.Store(true)
		s, err := sse.NewWriter(w, r, nil)
		if err != nil {
			return
		}
		defer s.Close()
		s.SendJSON("", 1)
	})
	serve(t, h, func(t *testing.T, n *network) {
		c, err := n.listener.DialContext(t.Context(), "", "")
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
		require.NoError(t, err)
		go io.Copy(io.Discard, c)
		time.Sleep(24 * time.Hour)
		assert.True(t, returned.Load(), "handler")
	})
}

// A server that begins to shut down calls whoever has asked by then.
func TestShutdownDuringGrant(t *testing.T) {
	var hub broadcast.Hub
	h := &sse.Handler{Broadcaster: &hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		time.Sleep(100 * time.Millisecond)
		return &fanfare.Grant{Topics: []string{"a"}}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		go func() {
			time.Sleep(50 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			assert.NoError(t, n.server.Shutdown(ctx), "Shutdown")
		}()
		s := n.get("/")
		time.Sleep(2 * time.Hour)
		assert.False(t, s.open())
	})
}

// What is under way is finished, and nothing else.
func TestNothingAfterExpires(t *testing.T) {
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

// The stream ends when it should, whatever its Snapshot waits for.
func TestSnapshotThatHangs(t *testing.T) {
	hub := broadcast.Hub{Keep: 2}
	var calls atomic.Int32
	h := &sse.Handler{Broadcaster: &hub, Logger: silent, Options: sse.Options{MaxAge: time.Minute}, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(20 * time.Second), Snapshot: func(ctx context.Context) ([]broadcast.Message, error) {
			if calls.Add(1) == 1 {
				return nil, nil
			}
			<-ctx.Done() // a database that does not answer
			return nil, ctx.Err()
		}}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		c := n.stuck("/")
		time.Sleep(time.Second)
		for range 200 {
			publish(t, &hub, "a", string(bytes.Repeat([]byte("x"), 200<<10)))
		}
		go io.Copy(io.Discard, c)
		time.Sleep(time.Hour)
		require.EqualValues(t, 2, calls.Load())
		assert.Zero(t, hub.Stats().Subscriptions, "Expires 20 s, MaxAge 1 min; an hour later")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		assert.NoError(t, n.server.Shutdown(ctx), "Shutdown")
	})
}

// A stream that is to end sends what one last Poll returns.
func TestEndWithoutFinish(t *testing.T) {
	e := &neverIdle{}
	serve(t, &sse.Handler{Broadcaster: e, Topics: []string{"a"}, Logger: silent}, func(t *testing.T, n *network) {
		s := n.get("/")
		time.Sleep(1050 * time.Millisecond) // in the middle of a Poll
		before := e.polls.Load()
		at := time.Now()
		assert.NoError(t, n.server.Shutdown(t.Context()))
		_, err := s.rest()
		t.Logf("%d polls after Shutdown, took %v, %v", e.polls.Load()-before, time.Since(at), err)
		assert.NoError(t, err)
		assert.LessOrEqual(t, e.polls.Load()-before, int64(2))
	})
}

// Nothing is written, and yet the client hears heartbeats and the stream can end.
func TestFilterThatDropsEverything(t *testing.T) {
	e := &neverIdle{}
	h := &sse.Handler{Broadcaster: e, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Filter: func(*broadcast.Message) bool { return false }}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		s := n.get("/")
		s.begins()
		time.Sleep(time.Hour)
		assert.NotEmpty(t, s.now(), "a heartbeat in an hour")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		assert.NoError(t, n.server.Shutdown(ctx), "Shutdown")
		s.cancel()
		time.Sleep(time.Second)
	})
}

// TestHeadBeforeHeartbeat has a heartbeat become due while the head of a detached stream
// still waits to go out with the first messages.
func TestHeadBeforeHeartbeat(t *testing.T) {
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
		for range 16 + 64 { // what the first two looks have room for
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

// A Writer that is not closed does not write into another response.
func TestForgottenClose(t *testing.T) {
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
			said, err := n.get("/forgets").rest()
			require.NoError(t, err)
			require.Equal(t, "retry: 3000\n\ndata: 1\n\n", said)
			synctest.Wait()
			answer, err := n.get("/next").rest()
			require.NoError(t, err)
			require.Equal(t, "0123456789", answer)
			synctest.Wait()
		}
		require.EqualValues(t, 1, n.dials.Load(), "all over one connection")
	}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 })
}

// It ends the stream, not the process.
func TestPanicInAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &panicsLater{recorder: &recorder{header: http.Header{}}}
		s, err := sse.NewWriter(w, httptest.NewRequest("GET", "/", nil), nil)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		s.Close()
	})
}

// It does not end the process.
func TestPanicAtTheEnd(t *testing.T) {
	h := &sse.Handler{Broadcaster: &closePanics{scripted{begin: broadcast.MakeID(7, 1)}}, Topics: []string{"a"}, Logger: silent}
	serve(t, h, func(t *testing.T, n *network) {
		s := n.get("/")
		s.begins()
		s.cancel()
		time.Sleep(time.Second)
	})
}

// TestMemoryOfStuckClients has clients that come back to much, and do not read it:
// each holds about as much as one write takes.
func TestMemoryOfStuckClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, size = 10, 200 << 10
		var hub broadcast.Hub
		h := &sse.Handler{Broadcaster: &hub, Logger: silent, Topics: []string{"a"}}
		begin := position(t, &hub)
		for range 250 {
			publish(t, &hub, "a", strings.Repeat("x", size))
		}
		before := heap()
		ctx, cancel := context.WithCancel(t.Context())
		var letGo []func()
		for range clients {
			w := &recorder{header: http.Header{}}
			letGo = append(letGo, w.stuck())
			r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			r.Header.Set("Last-Event-ID", begin)
			go h.ServeHTTP(w, r)
			synctest.Wait()
		}
		require.Less(t, heap()-min(before, heap()), uint64(clients*3*size+20<<20), "and what is encoded, once for all")
		cancel()
		for _, f := range letGo {
			f()
		}
		synctest.Wait()
	})
}

// neverIdle is a Broadcaster without Finish that always has one more message.
type neverIdle struct{ polls atomic.Int64 }

func (e *neverIdle) Publish(context.Context, broadcast.Message) (broadcast.ID, error) {
	return broadcast.ID{}, broadcast.ErrNotPublished
}

func (e *neverIdle) Subscribe(context.Context, broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	return e, nil
}

func (e *neverIdle) Poll(buf []*broadcast.Message) (int, error) {
	time.Sleep(100 * time.Millisecond)
	buf[0] = &broadcast.Message{ID: broadcast.MakeID(7, uint64(e.polls.Add(1))), Topic: "a", Data: []byte("x")}
	return 1, nil
}

func (e *neverIdle) Position() broadcast.ID { return broadcast.MakeID(7, uint64(e.polls.Load())) }

func (e *neverIdle) Close() error { return nil }

type panicsLater struct {
	*recorder
	n int
}

func (p *panicsLater) Write(b []byte) (int, error) {
	if p.n++; p.n > 1 {
		panic("a middleware's Write panics")
	}
	return p.recorder.Write(b)
}

type closePanics struct{ scripted }

func (c *closePanics) Close() error { panic("Subscription.Close") }

func (c *closePanics) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	c.scripted.Subscribe(ctx, o)
	return c, nil
}

package sse_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// ReadTimeout and WriteTimeout of the http.Server do not cut a stream. They are in force again
// for the next request on the connection.
func TestServerTimeoutsCutNoStream(t *testing.T) {
	var hub broadcast.Hub
	h := &sse.Handler{Broadcaster: &hub, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(time.Hour)}, nil
	}}
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(900 * time.Millisecond)
		body, err := io.ReadAll(r.Body)
		fmt.Fprint(w, len(body), err)
	})
	mux.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(1100 * time.Millisecond)
		fmt.Fprint(w, strings.Repeat("x", 10_000))
	})
	for _, method := range []string{"GET", "HEAD"} {
		serve(t, mux, func(t *testing.T, n *network) {
			s := n.do(method, "/", nil)
			if method == "GET" {
				s.expectBegin()
				time.Sleep(30 * time.Minute)
				s.received()
				id := publish(t, &hub, "a", "x")
				s.expect(tick(id, "x"))
				rest, err := s.rest()
				require.NoError(t, err)
				require.Empty(t, strings.ReplaceAll(rest, ":\n", ""))
			} else {
				s.expectEnd()
			}
			time.Sleep(time.Minute)

			synctest.Wait() // until the connection of the client is idle again, here and below
			answer, err := n.do("POST", "/slow", strings.NewReader("body")).rest()
			require.NoError(t, err)
			require.Equal(t, "4 <nil>", answer)
			synctest.Wait()
			again := n.do(method, "/", nil)
			if method == "GET" {
				again.expectBegin()
				again.rest()
			}
			synctest.Wait()
			answer, err = n.get("/slow").rest()
			require.NoError(t, err)
			require.Equal(t, "0 <nil>", answer)
			require.EqualValues(t, 1, n.dials.Load(), "all over one connection")

			// The timeouts of the server are in force again.
			synctest.Wait()
			r, err := http.NewRequestWithContext(t.Context(), "GET", "http://memory/late", nil)
			require.NoError(t, err)
			response, err := n.transport.RoundTrip(r)
			if err == nil {
				_, err = io.ReadAll(response.Body)
				response.Body.Close()
			}
			require.Error(t, err)
		}, func(n *network) { n.server.IdleTimeout = time.Hour })
	}
}

// A request whose context has a deadline is streamed until then, and the handler warns of it
// once.
func TestDeadlineOfTheContextIsWarnedOfOnce(t *testing.T) {
	var hub broadcast.Hub
	log := &logbook{}
	h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: log.logger()}
	timeout := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 50*time.Second)
		defer cancel()
		h.ServeHTTP(w, r.WithContext(ctx))
	})
	serve(t, timeout, func(t *testing.T, n *network) {
		for range 3 {
			s := n.get("/events")
			s.expectBegin()
			rest, err := s.rest()
			require.NoError(t, err, "it is a proper end")
			require.Equal(t, ":\n:\n:\n", rest)
		}
		lines := log.with("deadline")
		require.Len(t, lines, 1)
		require.Equal(t, "WARN", lines[0]["level"])
		require.Equal(t, "/events", lines[0]["path"])
		require.Contains(t, lines[0]["msg"], "timeout middleware")
	})
}

// net/http reads the rest of a request's body before it sends a header. A body that does not
// arrive holds the stream for WriteTimeout at most.
func TestMissingRequestBodyHoldsNoStream(t *testing.T) {
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

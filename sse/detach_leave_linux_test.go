package sse_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
)

// silentStreams serves streams that write nothing at all, so that no write can find out that
// a client has left. left gets a token for each stream that has ended.
func silentStreams(t *testing.T, detach, secure bool) (server *httptest.Server, h *sse.Handler, limit *middleware.Sessions, left chan struct{}) {
	t.Helper()
	left = make(chan struct{}, 100)
	hub := new(broadcast.Hub)
	h = &sse.Handler{Broadcaster: hub, Detach: detach, Logger: silent, Options: sse.Options{Heartbeat: -1},
		Grant: func(r *http.Request) (*fanfare.Grant, error) {
			context.AfterFunc(r.Context(), func() { left <- struct{}{} })
			return &fanfare.Grant{Topics: []string{"a"}}, nil
		}}
	limit = &middleware.Sessions{Max: 1, Logger: silent, Key: func(*http.Request) string { return "everybody" }}
	server = httptest.NewUnstartedServer(limit.Handler(h))
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(func() { hub.Close(); server.Close() })
	return server, h, limit, left
}

// ask asks for a stream, and returns the connection once the stream has begun. more is sent
// with the request.
func ask(t *testing.T, server *httptest.Server, more string) (net.Conn, *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	if server.TLS != nil {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	t.Cleanup(func() { c.Close() })
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"+more)
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, 200, response.StatusCode)
	_, err = io.ReadFull(response.Body, make([]byte, 10))
	require.NoError(t, err)
	return c, response
}

// A detached stream ends when its client leaves, as an attached one does: without a write that
// finds out. Its place in a Limit, which has only one, is free then.
func TestDetachedStreamEndsWhenItsClientLeaves(t *testing.T) {
	for _, test := range []struct {
		name, more string
		leave      func(c net.Conn)
	}{
		{"closes", "", func(c net.Conn) { c.Close() }},
		{"resets", "", func(c net.Conn) { c.(interface{ SetLinger(int) error }).SetLinger(0); c.Close() }},
		{"has sent more", "GET /next HTTP/1.1\r\nHost: x\r\n\r\n", func(c net.Conn) { io.WriteString(c, "x"); c.Close() }},
	} {
		for _, secure := range []bool{false, true} {
			if secure && test.name == "resets" {
				continue
			}
			t.Run(fmt.Sprintf("%s, TLS %v", test.name, secure), func(t *testing.T) {
				server, h, limit, left := silentStreams(t, true, secure)
				for range 3 {
					c, _ := ask(t, server, test.more)
					test.leave(c)
					<-left
					require.Eventually(t, func() bool { return limit.Streams("everybody") == 0 }, 10*time.Second, time.Millisecond)
				}
				require.Equal(t, map[string]uint64{"peer gone": 3}, h.Stats().Ended)
			})
		}
	}
}

// A client that ends its half of the connection has left, attached or detached: net/http ends
// the request's context then. It gets the end of the response.
func TestClientThatEndsItsHalfHasLeft(t *testing.T) {
	for _, detach := range []bool{false, true} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("detached %v, TLS %v", detach, secure), func(t *testing.T) {
				server, _, _, left := silentStreams(t, detach, secure)
				c, response := ask(t, server, "")
				if secure {
					c = c.(*tls.Conn).NetConn()
				}
				require.NoError(t, c.(*net.TCPConn).CloseWrite())
				<-left
				_, err := io.ReadAll(response.Body)
				require.NoError(t, err)
			})
		}
	}
}

// What a client sends on its stream's connection does not end the stream.
func TestBytesOfTheClientDoNotEndADetachedStream(t *testing.T) {
	hub := new(broadcast.Hub)
	h := detachable(hub)
	server := httptest.NewServer(h)
	defer server.Close()
	c, response := ask(t, server, "early")
	for range 20 {
		_, err := io.WriteString(c, "late")
		require.NoError(t, err)
	}
	publish(t, hub, "a", "still here")
	require.Contains(t, readTo(t, response.Body, "still here"), "still here")
	require.EqualValues(t, 1, h.Stats().Open)
	require.NoError(t, hub.Close())
	_, err := io.ReadAll(response.Body)
	require.NoError(t, err)
}

// readTo reads until text has come.
func readTo(t *testing.T, r io.Reader, text string) string {
	t.Helper()
	var all []byte
	for b := make([]byte, 1); ; {
		_, err := r.Read(b)
		require.NoError(t, err)
		if all = append(all, b[0]); len(all) >= len(text) && string(all[len(all)-len(text):]) == text {
			return string(all)
		}
	}
}

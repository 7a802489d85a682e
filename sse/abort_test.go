package sse_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
)

// hijackOnly hides everything but Flush and Hijack.
type hijackOnly struct{ flushOnly }

func (w hijackOnly) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// A stream that is aborted has no end, after all that was sent. Close has one.
func TestAbortIsACut(t *testing.T) {
	type wrap = func(http.Handler) http.Handler
	wraps := map[string]wrap{
		"":        func(h http.Handler) http.Handler { return h },
		"/Bypass": middleware.Bypass,
		"/wrapped": func(h http.Handler) http.Handler {
			return inWriter(h, func(w http.ResponseWriter) http.ResponseWriter { return unwraps{w} })
		},
		"/hijack": func(h http.Handler) http.Handler {
			return inWriter(h, func(w http.ResponseWriter) http.ResponseWriter { return hijackOnly{flushOnly{w}} })
		},
	}
	for protocol, configure := range map[string]func(*network){"HTTP/1.1": func(*network) {}, "HTTP/2": overHTTP2} {
		for name, wrap := range wraps {
			if name == "/hijack" && protocol == "HTTP/2" {
				continue // it cannot be hijacked
			}
			for _, cut := range []bool{true, false} {
				t.Run(protocol+name, func(t *testing.T) {
					h := written(t, nil, func(s *sse.Writer) {
						assert.NoError(t, s.Send(sse.Event{Data: []byte("x")}))
						assert.NoError(t, s.Queue(sse.Event{Data: []byte("y")}))
						if cut {
							assert.NoError(t, s.Abort())
							assert.NoError(t, s.Abort())
						}
						assert.NoError(t, s.Close())
						assert.ErrorIs(t, s.Send(sse.Event{Data: []byte("late")}), sse.ErrClosed)
						assert.ErrorIs(t, context.Cause(s.Context()), sse.ErrClosed)
						time.Sleep(time.Second)
					})
					serve(t, wrap(h), func(t *testing.T, n *network) {
						rest, err := n.do("POST", "/", nil).rest()
						require.Equal(t, "retry: 3000\ndata: x\n\ndata: y\n\n", rest)
						require.Equal(t, cut, err != nil, "%v", err)
						_, err = n.get("/").rest()
						require.Equal(t, cut, err != nil, "the server goes on")
						time.Sleep(2 * time.Second)
					}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 }, configure)
				})
			}
		}
	}
}

func inWriter(next http.Handler, wrap func(http.ResponseWriter) http.ResponseWriter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(wrap(w), r) })
}

// Where nothing reaches the connection, and over HTTP/3, which ends a stream in good order
// whatever its deadline, Abort says what is left to do.
func TestAbortThatCannotCutSaysSo(t *testing.T) {
	r3 := httptest.NewRequest("GET", "/", nil)
	r3.ProtoMajor, r3.ProtoMinor = 3, 0
	for name, test := range map[string]struct {
		w http.ResponseWriter
		r *http.Request
	}{
		"a recorder": {httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)},
		"HTTP/3":     {&recorder{header: http.Header{}}, r3},
	} {
		s, err := sse.NewWriter(test.w, test.r, nil)
		require.NoError(t, err)
		require.ErrorContains(t, s.Abort(), "http.ErrAbortHandler", name)
		require.NoError(t, s.Close())
	}
}

// A Handler with Abort ends its streams by a cut, after all that they were to get. A poll and
// the response to HEAD have an end all the same, and so has a stream whose topics have ended.
func TestHandlerAbortsItsStreams(t *testing.T) {
	for _, test := range []struct {
		name      string
		detach    bool
		configure func(*network)
		wrap      func(http.ResponseWriter) http.ResponseWriter
	}{
		{"attached", false, func(*network) {}, nil},
		{"detached", true, func(*network) {}, nil},
		{"HTTP/2", false, overHTTP2, nil},
		{"HTTP/2 without deadlines", false, overHTTP2, func(w http.ResponseWriter) http.ResponseWriter { return flushOnly{w} }},
		{"without deadlines", false, func(*network) {}, func(w http.ResponseWriter) http.ResponseWriter { return flushOnly{w} }},
		{"wrapped", true, func(*network) {}, func(w http.ResponseWriter) http.ResponseWriter { return unwraps{w} }},
	} {
		for _, abort := range []bool{true, false} {
			t.Run(test.name, func(t *testing.T) {
				var hub broadcast.Hub
				h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Detach: test.detach, Abort: abort, Logger: silent}
				sessions := &middleware.Sessions{Key: func(*http.Request) string { return "all" }, Logger: silent}
				var all http.Handler = sessions.Handler(h)
				if test.wrap != nil {
					all = inWriter(all, test.wrap)
				}
				serve(t, all, func(t *testing.T, n *network) {
					s := n.get("/")
					s.received()
					id := put(t, &hub, broadcast.Message{Topic: "a", End: true, Data: []byte("x")})
					rest, err := s.rest()
					require.Equal(t, "id: "+id+"\ndata: x\n\n", rest)
					require.NoError(t, err, "this is the end of everything")
					put(t, &hub, broadcast.Message{Topic: "a", First: true})
					for _, complete := range []bool{false, true} {
						_, err := n.get("/?poll=1").rest()
						require.NoError(t, err, "a poll is whole")
						n.do("HEAD", "/", nil).expectEnd()
						s := n.get("/")
						s.expectBegin()
						want := tick(publish(t, &hub, "a", "x"), "x")
						if complete {
							require.NoError(t, hub.Close())
						} else {
							s.expect(want)
							want = ""
							synctest.Wait() // until the handler has left the poll and the HEAD, too
							require.Equal(t, 1, sessions.Disconnect("all", 0, ""))
						}
						rest, err := s.rest()
						require.Equal(t, want, rest)
						require.Equal(t, abort, err != nil, "%v", err)
						synctest.Wait()
					}
					require.Zero(t, sessions.Disconnect("all", 0, ""))
				}, func(n *network) { n.server.WriteTimeout, n.server.ReadTimeout = 0, 0 }, test.configure)
			})
		}
	}
}

// An aborted stream over TLS is cut, too.
func TestAbortOverTLS(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		server := httptest.NewUnstartedServer(written(t, nil, func(s *sse.Writer) {
			assert.NoError(t, s.Send(sse.Event{Data: []byte("x")}))
			assert.NoError(t, s.Abort())
		}))
		server.EnableHTTP2 = http2
		server.StartTLS()
		response, err := server.Client().Get(server.URL)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.Equal(t, "retry: 3000\ndata: x\n\n", nominal(string(body)))
		require.Error(t, err)
		require.False(t, errors.Is(err, io.EOF))
		response.Body.Close()
		server.Client().CloseIdleConnections()
		server.Close()
	}
}

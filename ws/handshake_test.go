package ws_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/ws"
)

// delaying is the writer of a middleware that keeps the status until it knows the body,
// to compress it perhaps, and writes it when its handler has returned.
type delaying struct {
	http.ResponseWriter
	status int
}

func (d *delaying) WriteHeader(status int) { d.status = status }
func (d *delaying) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(d.ResponseWriter).Hijack()
}

// unwrapping is one that has Unwrap, too.
type unwrapping struct{ *delaying }

func (u unwrapping) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// recording is the writer of a logger. It has Hijack, and no Unwrap.
type recording struct {
	http.ResponseWriter
	status *int
}

func (r recording) WriteHeader(status int) {
	*r.status = status
	r.Header().Set("X-Session", "saved")
	r.ResponseWriter.WriteHeader(status)
}
func (r recording) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(r.ResponseWriter).Hijack()
}

// foreign is a server's writer that is not net/http's, as far as can be seen.
type foreign struct{ server func() http.ResponseWriter }

func (f foreign) Header() http.Header         { return f.server().Header() }
func (f foreign) Write(b []byte) (int, error) { return f.server().Write(b) }
func (f foreign) WriteHeader(status int)      { f.server().WriteHeader(status) }
func (f foreign) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(f.server()).Hijack()
}

func foreignTo(w http.ResponseWriter) foreign {
	return foreign{func() http.ResponseWriter { return w }}
}

// eachUpgrade calls test with a Handler, attached and detached, and an Upgrade, each of
// which sends one message.
func eachUpgrade(t *testing.T, test func(t *testing.T, h http.Handler, first string)) {
	for _, detach := range []bool{false, true} {
		t.Run(fmt.Sprint("Handler, detached ", detach), func(t *testing.T) {
			test(t, &ws.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}, Detach: detach, Logger: silent}, `{"ready":"`)
		})
	}
	t.Run("Upgrade", func(t *testing.T) {
		test(t, upgraded(nil, func(c *ws.Conn) {
			_ = c.Write(c.Context(), ws.Text, []byte("hello"))
			_ = echo(c)
		}), "hello")
	})
}

// The 101 comes first and once, with the headers that were set, whatever the wrappers of
// the ResponseWriter do with a status.
func TestTheHandshakeIsWrittenWhateverAWrapperDoes(t *testing.T) {
	for name, wrap := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"no wrapper":                  func(w http.ResponseWriter) http.ResponseWriter { return w },
		"keeps the status":            func(w http.ResponseWriter) http.ResponseWriter { return unwrapping{&delaying{ResponseWriter: w}} },
		"keeps the status, no Unwrap": func(w http.ResponseWriter) http.ResponseWriter { return &delaying{ResponseWriter: w} },
		"above another": func(w http.ResponseWriter) http.ResponseWriter {
			return goodWriter{unwrapping{&delaying{ResponseWriter: w}}}
		},
		"below another":                  func(w http.ResponseWriter) http.ResponseWriter { return &delaying{ResponseWriter: goodWriter{w}} },
		"above another server":           func(w http.ResponseWriter) http.ResponseWriter { return &delaying{ResponseWriter: foreignTo(w)} },
		"another server":                 func(w http.ResponseWriter) http.ResponseWriter { return foreignTo(w) },
		"passes the status on":           func(w http.ResponseWriter) http.ResponseWriter { return goodWriter{w} },
		"passes it on and has no Unwrap": func(w http.ResponseWriter) http.ResponseWriter { return recording{w, new(int)} },
	} {
		t.Run(name, func(t *testing.T) {
			eachUpgrade(t, func(t *testing.T, h http.Handler, first string) {
				serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Set-Cookie", "a=b")
					w.Header().Set("Content-Encoding", "gzip") // of a compressor that wants to begin
					h.ServeHTTP(wrap(w), r)
				}), func(t *testing.T, n *network) {
					p, header := n.handshake("Accept-Encoding: gzip\r\n")
					require.Equal(t, "a=b", header.Get("Set-Cookie"))
					f := p.next()
					require.Equal(t, fin|text, int(f.first))
					require.True(t, strings.HasPrefix(f.payload, first), "%s", f)
					p.write(masked(fin|clos, closing(1000, "")))
					p.closes(1000)
				})
			})
		})
	}
}

// handshake connects a peer, and returns the header of the 101.
func (n *network) handshake(headers string) (*peer, http.Header) {
	n.t.Helper()
	response, p := n.request(headers)
	require.Equal(n.t, http.StatusSwitchingProtocols, response.StatusCode)
	require.Equal(n.t, "Upgrade", response.Header.Get("Connection"))
	require.Equal(n.t, "websocket", response.Header.Get("Upgrade"))
	require.Equal(n.t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", response.Header.Get("Sec-WebSocket-Accept"))
	return p, response.Header
}

// request sends a handshake with more headers.
func (n *network) request(headers string) (*http.Response, *peer) {
	n.t.Helper()
	conn, err := n.listener.DialContext(n.t.Context(), "", "")
	require.NoError(n.t, err)
	n.t.Cleanup(func() { conn.Close() })
	p := newPeer(n.t, conn)
	p.write("GET / HTTP/1.1\r\nHost: memory\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + headers +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	response, err := http.ReadResponse(p.r, nil)
	require.NoError(n.t, err)
	return response, p
}

// A logger sees the status, and what it sets then is sent.
func TestWrappersGetTheStatusOfTheHandshake(t *testing.T) {
	eachUpgrade(t, func(t *testing.T, h http.Handler, _ string) {
		serve(t, nil, func(t *testing.T, n *network) {
			var status int
			n.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(recording{w, &status}, r) })
			p, header := n.handshake("")
			require.Equal(t, "saved", header.Get("X-Session"))
			p.next()
			p.write(masked(fin|clos, closing(1000, "")))
			p.closes(1000)
			synctest.Wait()
			require.Equal(t, http.StatusSwitchingProtocols, status)
		})
	})
}

// hijacker is a writer with a Hijack and a WriteHeader of its own.
type hijacker struct {
	http.ResponseWriter
	hijack      func() (net.Conn, *bufio.ReadWriter, error)
	writeHeader func(int)
}

func (h hijacker) Unwrap() http.ResponseWriter                  { return h.ResponseWriter }
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.hijack() }
func (h hijacker) WriteHeader(status int) {
	if h.writeHeader != nil {
		h.writeHeader(status)
	}
	h.ResponseWriter.WriteHeader(status)
}

// A handshake that fails is not taken for one that succeeded: the client gets no 101, or
// the end of the connection right after it.
func TestAHijackThatFailsEndsTheConnection(t *testing.T) {
	eachUpgrade(t, func(t *testing.T, h http.Handler, _ string) {
		serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(hijacker{w, func() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errors.New("not now") }, nil}, r)
		}), func(t *testing.T, n *network) {
			_, p := n.request("")
			p.ends()
		})
	})
}

// broken are wrappers and hooks that panic during a handshake, each at another point.
var broken = map[string]func(http.ResponseWriter, *ws.Options) http.ResponseWriter{
	"CheckOrigin": func(w http.ResponseWriter, o *ws.Options) http.ResponseWriter {
		o.CheckOrigin = func(*http.Request) error { panic("CheckOrigin") }
		return w
	},
	"WriteHeader": func(w http.ResponseWriter, _ *ws.Options) http.ResponseWriter {
		return hijacker{w, nil, func(int) { panic("WriteHeader") }}
	},
	"WriteHeader of a refusal": func(w http.ResponseWriter, o *ws.Options) http.ResponseWriter {
		o.CheckOrigin = func(*http.Request) error { return errors.New("no") }
		return hijacker{w, nil, func(int) { panic("WriteHeader") }}
	},
	"Hijack": func(w http.ResponseWriter, _ *ws.Options) http.ResponseWriter {
		return hijacker{w, func() (net.Conn, *bufio.ReadWriter, error) { panic("Hijack") }, nil}
	},
	"after Hijack": func(w http.ResponseWriter, _ *ws.Options) http.ResponseWriter {
		return hijacker{w, func() (net.Conn, *bufio.ReadWriter, error) {
			c, _, err := http.NewResponseController(w).Hijack()
			return c, nil, err // there is no buffer, which panics later
		}, nil}
	},
	"an error of Hijack": func(w http.ResponseWriter, _ *ws.Options) http.ResponseWriter {
		return hijacker{w, func() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errors.New("Hijack") }, nil}
	},
}

// Whatever panics during a handshake, what was held for it is released: the place in a
// Limit, the request that a Drain waits for, and the connection.
func TestAPanicInAHandshakeReleasesWhatItHeld(t *testing.T) {
	for name, breaks := range broken {
		for _, bypass := range []bool{false, true} {
			for _, kind := range []string{"Upgrade", "Handler", "Handler, detached"} {
				t.Run(fmt.Sprint(name, "/", kind, "/bypass ", bypass), func(t *testing.T) {
					limit, drain := &middleware.Limit{Total: 1, Logger: silent}, &middleware.Drain{Spread: -1, Logger: silent}
					var o ws.Options
					hub := new(broadcast.Hub)
					route := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if kind != "Upgrade" {
							h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Options: o, Detach: kind != "Handler", Logger: silent}
							h.ServeHTTP(w, r)
							return
						}
						if c, err := ws.Upgrade(w, r, &o); err == nil {
							c.CloseNow()
						}
					}))
					if bypass {
						route = middleware.Bypass(route)
					}
					serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						o = ws.Options{}
						route := drain.Handler(limit.Handler(route))
						if r.Header.Get("X-Break") != "" {
							w = breaks(w, &o)
						}
						route.ServeHTTP(w, r)
					}), func(t *testing.T, n *network) {
						for range 3 {
							n.fails()
						}
						p, _ := n.handshake("")
						require.Zero(t, hub.Stats().Subscriptions-map[bool]int{true: 0, false: 1}[kind == "Upgrade"])
						p.Close()
						synctest.Wait()
						began := time.Now()
						require.NoError(t, drain.Shutdown(t.Context()))
						require.Less(t, time.Since(began), time.Minute)
					})
				})
			}
		}
	}
}

// fails sends a handshake that does not succeed, and waits for the end of the connection.
func (n *network) fails() {
	n.t.Helper()
	conn, err := n.listener.DialContext(n.t.Context(), "", "")
	require.NoError(n.t, err)
	defer conn.Close()
	go io.WriteString(conn, "GET / HTTP/1.1\r\nHost: memory\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Break: 1\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(limit))
	_, err = io.ReadAll(conn)
	require.NoError(n.t, err, "the connection has ended")
	synctest.Wait() // and the handler has returned
}

// What follows a handshake that is refused is not parsed as a request: the client, or a
// proxy, may take the connection for a WebSocket.
func TestARefusedHandshakeEndsTheConnection(t *testing.T) {
	hub := new(broadcast.Hub)
	require.NoError(t, hub.Close())
	handler := func(change func(*ws.Handler)) http.Handler {
		h := &ws.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}, Logger: silent}
		change(h)
		return h
	}
	for _, test := range []struct {
		name    string
		h       http.Handler
		request string // more of its header
		status  int
	}{
		{"Upgrade, a foreign origin", upgraded(nil, func(*ws.Conn) {}), "Origin: http://evil.example\r\n", 403},
		{"Upgrade, another version", upgraded(nil, func(*ws.Conn) {}), "Sec-WebSocket-Version: 12\r\n", 426},
		{"Upgrade, two keys", upgraded(nil, func(*ws.Conn) {}), "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400},
		{"Handler, a foreign origin", handler(func(*ws.Handler) {}), "Origin: http://evil.example\r\n", 403},
		{"Handler, its Grant", handler(func(h *ws.Handler) { h.Grant = refusing(401) }), "", 401},
		{"Handler, its Grant, 204", handler(func(h *ws.Handler) { h.Grant = refusing(204) }), "", 204},
		{"Handler, a closed Hub", handler(func(h *ws.Handler) { h.Broadcaster = hub }), "", 503},
		{"Handler, its ErrorHandler", handler(func(h *ws.Handler) {
			h.Grant = refusing(401)
			h.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(418) }
		}), "", 418},
		{"Origins", new(middleware.Origins).Handler(handler(func(*ws.Handler) {})), "Origin: http://evil.example\r\n", 403},
		{"Limit", (&middleware.Limit{PerKey: -1, Logger: silent}).Handler(handler(func(*ws.Handler) {})), "", 500},
	} {
		for _, bypass := range []bool{false, true} {
			t.Run(fmt.Sprint(test.name, "/bypass ", bypass), func(t *testing.T) {
				h := test.h
				if bypass {
					h = middleware.Bypass(h)
				}
				serve(t, h, func(t *testing.T, n *network) {
					response, p := n.request(test.request)
					require.Equal(t, test.status, response.StatusCode)
					require.True(t, response.Close)
					if test.status == 426 {
						require.Equal(t, "websocket", response.Header.Get("Upgrade"), "RFC 9110 section 15.5.22")
					}
					_, err := io.Copy(io.Discard, response.Body)
					require.NoError(t, err)
					go io.WriteString(p.Conn, "GET /smuggled HTTP/1.1\r\nHost: memory\r\n\r\n")
					p.ends()
				})
			})
		}
	}
}

// A request over HTTP/2 shares its connection with others, which must not end.
func TestARefusalOverHTTP2LeavesTheConnection(t *testing.T) {
	server := httptest.NewUnstartedServer(upgraded(nil, func(*ws.Conn) {}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	for i := range 2 {
		response, err := server.Client().Get(server.URL)
		require.NoError(t, err)
		response.Body.Close()
		assert.Equal(t, 2, response.ProtoMajor)
		assert.Equal(t, http.StatusNotImplemented, response.StatusCode)
		assert.Empty(t, response.Header.Get("Connection"), i)
	}
}

func refusing(status int) func(*http.Request) (*fanfare.Grant, error) {
	return func(*http.Request) (*fanfare.Grant, error) { return nil, &fanfare.Refusal{Status: status} }
}

package ws_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// wrongs is what a server with a MaxMessage of 1,000 refuses.
var wrongs = []struct {
	name   string
	send   string
	code   ws.StatusCode
	framed bool // a close frame can be found after it
}{
	{"a frame that is not masked", unmasked(fin|text, "hello"), 1002, true},
	{"a reserved bit", masked(fin|rsv1|text, "hello"), 1002, true},
	{"a reserved opcode", masked(fin|3, "hello"), 1002, true},
	{"a length that is not in its shortest form", string([]byte{fin | text, 0x80 | 126, 0, 2, 0, 0, 0, 0, 'h', 'i'}), 1002, true},
	{"a continuation of nothing", masked(fin|cont, "hello"), 1002, true},
	{"a large ping", masked(fin|ping, strings.Repeat("x", 126)), 1002, true},
	{"a close frame that is too long", masked(fin|clos, closing(1000, strings.Repeat("x", 200))), 1002, true},
	{"text that is not UTF-8", masked(fin|text, "\xff"), 1007, true},
	{"a message that is too large", masked(fin|text, strings.Repeat("x", 5000)), 1009, true},
	{"one in many frames", masked(bin, strings.Repeat("x", 900)) + masked(cont, strings.Repeat("x", 900)) + masked(cont, strings.Repeat("x", 900)), 1009, true},
	{"what are no frames", "GET / HTTP/1.1\r\nHost: memory\r\n\r\n", 1002, false},
	{"a frame without an end", header(fin|bin, 0x80, 1<<30) + "\x00\x00\x00\x00" + strings.Repeat("x", 5000), 1009, false},
}

// subjectsThatFail are servers that read, by name.
func subjectsThatFail(o ws.Options) map[string]http.Handler {
	handler := func(detach bool) http.Handler {
		return &ws.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}, Encode: ws.Raw, Detach: detach, Options: o, Logger: silent,
			Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
				return func(ws.MessageType, []byte) error { return nil }
			}}
	}
	return map[string]http.Handler{
		"Upgrade":           upgraded(&o, func(c *ws.Conn) { _ = echo(c) }),
		"Handler":           handler(false),
		"Handler, detached": handler(true),
		"Close": upgraded(&o, func(c *ws.Conn) { // what comes is no longer refused
			_ = c.Close(4000, "")
		}),
		"Close, while a Read waits": upgraded(&o, func(c *ws.Conn) {
			go func() { _ = echo(c) }()
			_ = c.Close(4000, "")
		}),
	}
}

// A connection that fails ends as soon as the peer has answered the close frame, wherever
// its close frame is among what it sends.
func TestAConnectionThatFailsEndsWithThePeersCloseFrame(t *testing.T) {
	for _, wrong := range wrongs {
		if !wrong.framed {
			continue
		}
		for name := range subjectsThatFail(ws.Options{}) {
			for when, together := range map[string]bool{"then the answer": false, "together with a close frame": true} {
				for _, piece := range []int{1 << 20, 1} {
					t.Run(fmt.Sprint(wrong.name, "/", name, "/", when, " in pieces of ", piece), func(t *testing.T) {
						serve(t, nil, func(t *testing.T, n *network) {
							n.server.Handler = subjectsThatFail(ws.Options{MaxMessage: 1000})[name]
							p := n.raw("/", "")
							began := time.Now()
							answer := masked(fin|ping, "x") + masked(fin|clos, closing(wrong.code, ""))
							written := make(chan struct{})
							go func() {
								defer close(written)
								if together {
									p.trickle(wrong.send+answer, piece)
								} else {
									p.trickle(wrong.send, piece)
								}
							}()
							f := p.next()
							require.Equal(t, fin|clos, int(f.first), "%s", f)
							if !strings.HasPrefix(name, "Close") {
								require.True(t, strings.HasPrefix(f.payload, closing(wrong.code, "")), "%q", f.payload)
							}
							<-written
							if !together {
								p.trickle(answer, piece)
							}
							p.ends()
							require.Zero(t, time.Since(began))
						})
					})
				}
			}
		}
	}
}

// watched is a TCP connection that says when it is closed.
type watched struct {
	*net.TCPConn
	closed func()
}

func (w *watched) Close() error {
	w.closed()
	return w.TCPConn.Close()
}

// watcher is a listener of such connections. It has room for one.
type watcher struct {
	net.Listener
	plain  bool // the connections are *net.TCPConn, and nobody says when they are closed
	closed chan struct{}
}

func (w *watcher) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil || w.plain {
		return c, err
	}
	return &watched{c.(*net.TCPConn), sync.OnceFunc(func() { close(w.closed) })}, nil
}

// A connection that fails is half closed, so that also a peer that waits for the end of
// the connection, or whose close frame cannot be found, does not keep it.
func TestAConnectionThatFailsIsHalfClosed(t *testing.T) {
	o := ws.Options{MaxMessage: 1000, WriteTimeout: 5 * time.Minute} // longer than patience
	for _, secure := range []bool{false, true} {
		for _, plain := range []bool{false, true} {
			for _, wrong := range wrongs {
				for name, h := range subjectsThatFail(o) {
					t.Run(fmt.Sprint("TLS ", secure, "/plain ", plain, "/", wrong.name, "/", name), func(t *testing.T) {
						t.Parallel()
						halfClosed(t, h, secure, plain, wrong.send)
					})
				}
			}
		}
	}
}

func halfClosed(t *testing.T, h http.Handler, secure, plain bool, send string) {
	server := httptest.NewUnstartedServer(h)
	w := &watcher{server.Listener, plain, make(chan struct{})}
	server.Listener = w
	dial := func() (net.Conn, error) { return net.Dial("tcp", w.Addr().String()) }
	if secure {
		server.StartTLS()
		dial = func() (net.Conn, error) {
			config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			config.ServerName = "example.com"
			return tls.Dial("tcp", w.Addr().String(), config)
		}
	} else {
		server.Start()
	}
	defer server.Close()
	conn, err := dial()
	require.NoError(t, err)
	defer conn.Close()
	const patience = time.Minute
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	p := newPeer(t, conn)
	p.write("GET / HTTP/1.1\r\nHost: memory\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + send)
	response, err := http.ReadResponse(p.r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	f, err := readFrame(p.r, false)
	require.NoError(t, err)
	require.Equal(t, fin|clos, int(f.first))
	_, err = io.ReadAll(p.r)
	require.NoError(t, err, "the server's half ends, and in good order")
	require.NoError(t, conn.Close())
	if !plain {
		select {
		case <-w.closed:
		case <-time.After(patience):
			assert.Fail(t, "the server keeps the connection")
		}
	}
}

// So is one that a client fails.
func TestAClientThatFailsTheConnectionDoesNotKeepIt(t *testing.T) {
	ended := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Accept: "+accept(r.Header.Get("Sec-WebSocket-Key"))+"\r\n\r\n"+unmasked(fin|text, "\xff"))
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		_, err = io.Copy(io.Discard, buffered.Reader)
		ended <- err
	}))
	defer server.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	c, err := ws.Dial(t.Context(), server.URL, &ws.DialOptions{Options: ws.Options{WriteTimeout: 5 * time.Minute}})
	require.NoError(t, err)
	_, _, err = c.Read(context.Background())
	require.Equal(t, ws.StatusInvalidFramePayloadData, ws.CloseStatus(err))
	require.NoError(t, <-ended)
}

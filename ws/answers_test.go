package ws_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
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

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// echoes is a Handler whose Receive sends each message back, after some time.
func echoes(takes time.Duration, o ws.Options, detach bool) *ws.Handler {
	return &ws.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Logger: silent, Options: o, Detach: detach,
		Receive: func(_ *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			return func(typ ws.MessageType, b []byte) error {
				switch string(b) {
				case "stop":
					return &ws.CloseError{Code: 4001, Reason: "stopped"}
				case "close":
					return c.Close(4002, "closed")
				}
				time.Sleep(takes)
				return c.Write(context.Background(), typ, b)
			}
		}}
}

// numbered returns the frames of n messages.
func numbered(n int) (wire string) {
	for i := range n {
		wire += masked(fin|text, fmt.Sprint("message ", i))
	}
	return wire
}

// Receive handles all messages that came before a close frame, or before what is not
// allowed, and its answers go out before the close frame.
func TestAnswersComeBeforeTheCloseFrame(t *testing.T) {
	for name, end := range map[string]struct {
		wire string
		code ws.StatusCode
	}{
		"a close frame":                {masked(fin|clos, closing(1000, "bye")), 1000},
		"a close frame without a code": {masked(fin|clos, ""), 0},
		"an invalid close frame":       {masked(fin|clos, "x"), 1002},
		"close within a message":       {masked(text, "begun") + masked(fin|clos, closing(4000, "")), 4000},
		"a ping, then close":           {masked(fin|ping, "x") + masked(fin|clos, closing(1001, "")), 1001},
		"not masked":                   {unmasked(fin|text, "x"), 1002},
		"a reserved opcode":            {masked(fin|3, "x"), 1002},
		"a reserved control opcode":    {masked(fin|0xb, ""), 1002},
		"a reserved bit":               {masked(fin|0x20|text, "x"), 1002},
		"a fragmented ping":            {masked(ping, "x"), 1002},
		"a long ping":                  {masked(fin|ping, strings.Repeat("x", 126)), 1002},
		"a continuation of nothing":    {masked(fin|cont, "x"), 1002},
		"a message in a message":       {masked(text, "x") + masked(fin|text, "y"), 1002},
		"a length that is too long":    {"\x81\xfe\x00\x01\x00\x00\x00\x00x", 1002},
		"not UTF-8":                    {masked(fin|text, "\xff"), 1007},
		"too big":                      {masked(fin|text, strings.Repeat("x", 2001)), 1009},
	} {
		for _, detach := range []bool{false, true} {
			for _, compress := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, detached %v, compressed %v", name, detach, compress), func(t *testing.T) {
					for _, takes := range []time.Duration{0, 300 * time.Millisecond} { // 6 s together: longer than the library waits
						o := ws.Options{Compression: compress, MaxMessage: 2000}
						h := echoes(takes, o, detach)
						serve(t, h, func(t *testing.T, n *network) {
							p := n.agreed(o)
							p.next()
							go io.WriteString(p.Conn, numbered(20)+end.wire)
							for i := range 20 {
								f := p.next()
								if f.first == fin|pong {
									f = p.next()
								}
								require.Equal(t, frame{fin | text, fmt.Sprint("message ", i)}, f)
							}
							f := p.next()
							if f.first == fin|pong {
								f = p.next()
							}
							require.Equal(t, byte(fin|clos), f.first)
							if end.code != 0 {
								require.Equal(t, closing(end.code, "")[:2], f.payload[:2])
							}
							_, _ = io.WriteString(p.Conn, masked(fin|clos, f.payload[:min(2, len(f.payload))]))
							p.Close()
							time.Sleep(time.Minute)
						})
					}
				})
			}
		}
	}
}

// A deflated message that cannot be inflated is refused after the answers too.
func TestAnswersComeBeforeARefusalOfDeflatedBytes(t *testing.T) {
	o := ws.Options{Compression: true}
	serve(t, echoes(0, o, true), func(t *testing.T, n *network) {
		p := n.agreed(o)
		p.next()
		go io.WriteString(p.Conn, numbered(20)+masked(rsv1Text, "\xff\xff\xff"))
		for i := range 20 {
			require.Equal(t, frame{fin | text, fmt.Sprint("message ", i)}, p.next())
		}
		p.closes(ws.StatusProtocolError)
	})
}

// An error of Receive, or a Close in it, decides the close frame, also where the client has sent
// one already, and the messages after it are not handled. Which goroutine comes first is chance:
// so each case is tried often.
func TestErrorOfReceiveComesBeforeThePeersClose(t *testing.T) {
	for what, code := range map[string]ws.StatusCode{"stop": 4001, "close": 4002} {
		for i := range 100 {
			h := echoes(0, ws.Options{}, i%2 == 0)
			var handled atomic.Int32
			receive := h.Receive
			h.Receive = func(r *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
				handle := receive(r, c)
				return func(typ ws.MessageType, b []byte) error {
					handled.Add(1)
					return handle(typ, b)
				}
			}
			serve(t, h, func(t *testing.T, n *network) {
				p := n.raw("/", "")
				p.next()
				began := time.Now()
				p.write(numbered(3) + masked(fin|text, what) + numbered(3) + masked(fin|clos, closing(1000, "")))
				p.receives("message 0", "message 1", "message 2")
				p.closes(code)
				synctest.Wait()
				require.EqualValues(t, 4, handled.Load())
				if what == "stop" {
					require.Equal(t, map[string]uint64{"closed by Receive": 1}, h.Stats().Ended)
				}
				require.Less(t, time.Since(began), time.Second)
			})
		}
	}
}

// What a stream was asked to end for first decides the close frame, as it does the counts.
func TestARestartComesBeforeAnErrorOfReceive(t *testing.T) {
	for _, detach := range []bool{false, true} {
		h := echoes(300*time.Millisecond, ws.Options{}, detach)
		serve(t, h, func(t *testing.T, n *network) {
			p := n.raw("/", "")
			p.next()
			p.write(numbered(1) + masked(fin|text, "stop"))
			synctest.Wait()
			h.Broadcaster.(*broadcast.Hub).Close()
			p.receives("message 0")
			p.closes(ws.StatusServiceRestart)
			synctest.Wait()
			require.Equal(t, map[string]uint64{"restart": 1}, h.Stats().Ended)
		})
	}
}

// A stream that is asked to end for a restart first answers what came in before.
func TestAnswersComeBeforeARestart(t *testing.T) {
	for name, end := range map[string]func(n *network, h *ws.Handler){
		"Hub.Close":       func(_ *network, h *ws.Handler) { h.Broadcaster.(*broadcast.Hub).Close() },
		"Server.Shutdown": func(n *network, _ *ws.Handler) { n.server.Shutdown(context.Background()) },
	} {
		for _, detach := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, detached %v", name, detach), func(t *testing.T) {
				h := echoes(300*time.Millisecond, ws.Options{}, detach)
				serve(t, h, func(t *testing.T, n *network) {
					p := n.raw("/", "")
					p.next()
					p.write(numbered(10))
					synctest.Wait()
					end(n, h)
					synctest.Wait()
					p.write(masked(fin|text, "too late"))
					for i := range 10 {
						p.receives(fmt.Sprint("message ", i))
					}
					p.closes(ws.StatusServiceRestart)
					synctest.Wait()
				})
			})
		}
	}
}

// A Receive that does not come back holds up neither a restart nor the client's close for
// longer than WriteTimeout.
func TestReceiveThatBlocksDoesNotHoldUpTheEnd(t *testing.T) {
	for name, restart := range map[string]bool{"restart": true, "the client's close": false} {
		t.Run(name, func(t *testing.T) {
			h := echoes(time.Hour, ws.Options{WriteTimeout: 8 * time.Second}, true)
			serve(t, h, func(t *testing.T, n *network) {
				p := n.raw("/", "")
				p.next()
				p.write(numbered(1))
				synctest.Wait()
				began, code := time.Now(), ws.StatusServiceRestart
				if restart {
					h.Broadcaster.(*broadcast.Hub).Close()
				} else {
					code = 1000
					p.write(masked(fin|clos, closing(1000, "")))
				}
				p.closes(code)
				require.LessOrEqual(t, time.Since(began), 8*time.Second)
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// Over TLS, whose records do not end where frames do.
func TestAnswersComeBeforeTheCloseFrameOverTLS(t *testing.T) {
	for _, detach := range []bool{false, true} {
		var handled atomic.Int32
		h := echoes(0, ws.Options{}, detach)
		receive := h.Receive
		h.Receive = func(r *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			echo := receive(r, c)
			return func(typ ws.MessageType, b []byte) error { handled.Add(1); return echo(typ, b) }
		}
		server := httptest.NewTLSServer(h)
		conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, err)
		p := newPeer(t, conn)
		p.write("GET / HTTP/1.1\r\nHost: memory\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		response, err := http.ReadResponse(p.r, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
		p.next()
		p.write(numbered(20) + masked(fin|clos, closing(1000, "")))
		for i := range 20 {
			p.receives(fmt.Sprint("message ", i))
		}
		f := p.next()
		assert.Equal(t, frame{fin | clos, closing(1000, "")}, f)
		assert.EqualValues(t, 20, handled.Load())
		conn.Close()
		server.Close()
	}
}

// A Receive that ends its goroutine, as FailNow of a test does, ends its connection.
func TestReceiveThatEndsItsGoroutine(t *testing.T) {
	for _, detach := range []bool{false, true} {
		h := echoes(0, ws.Options{}, detach)
		receive := h.Receive
		h.Receive = func(r *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			echo := receive(r, c)
			return func(typ ws.MessageType, b []byte) error {
				if string(b) == "exit" {
					runtime.Goexit()
				}
				return echo(typ, b)
			}
		}
		served := 0
		serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			served++
		}), func(t *testing.T, n *network) {
			p := n.raw("/", "")
			p.next()
			p.write(numbered(2) + masked(fin|text, "exit") + numbered(2))
			p.receives("message 0", "message 1")
			p.closes(ws.StatusInternalError)
			synctest.Wait()
			require.Equal(t, 1, served, "the handler returns")
		})
	}
}

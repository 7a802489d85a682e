package ws_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/ws"
)

// overTCP runs test with a detached handler that sends back each message, over TCP. It has no
// goroutine for an idle connection.
func overTCP(t *testing.T, o ws.Options, test func(t *testing.T, n *network, h *ws.Handler)) {
	t.Helper()
	h := echoes(0, o, true)
	serveTCP(t, h, func(t *testing.T, n *network) {
		test(t, n, h)
		awaitEnd(t, h)
	})
}

// awaitEnd waits until no stream is open.
func awaitEnd(t *testing.T, h *ws.Handler) {
	t.Helper()
	require.Eventually(t, func() bool { return h.Stats().Open == 0 }, 10*time.Second, time.Millisecond)
}

// readers returns how many goroutines read for detached handlers.
func readers() int { return goroutines("ws.(*inbox).") }

// goroutines returns how many goroutines have a function on their stacks.
func goroutines(function string) int {
	buf := make([]byte, 4<<20)
	n := 0
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, function) {
			n++
		}
	}
	return n
}

// A connection has a goroutine that reads only while a part of a message has come: not while
// it is idle, whatever has come before.
func TestIdleWatchedConnectionHasNoGoroutine(t *testing.T) {
	overTCP(t, ws.Options{PingInterval: -1}, func(t *testing.T, n *network, _ *ws.Handler) {
		idle := func() {
			t.Helper()
			require.Eventually(t, func() bool { return readers() == 0 }, 10*time.Second, time.Millisecond)
		}
		p := n.raw("/", "")
		p.next() // ready
		idle()
		hello, ping1, pong1 := masked(fin|text, "hello"), masked(fin|ping, "1"), masked(fin|pong, "1")
		for _, test := range []struct {
			name, send string
			back       []frame
		}{
			{"a message", hello, []frame{{fin | text, "hello"}}},
			{"an empty message", masked(fin|bin, ""), []frame{{fin | bin, ""}}},
			{"a large message", masked(fin|text, strings.Repeat("x", 20_000)), []frame{{fin | text, strings.Repeat("x", 20_000)}}},
			{"messages at once", hello + hello + hello, []frame{{fin | text, "hello"}, {fin | text, "hello"}, {fin | text, "hello"}}},
			{"fragments", masked(text, "he") + masked(fin|cont, "llo"), []frame{{fin | text, "hello"}}},
			{"a ping", ping1, []frame{{fin | pong, "1"}}},
			{"a pong", pong1, nil},
			{"a ping within a message", masked(text, "he") + ping1 + masked(fin|cont, "llo"), []frame{{fin | pong, "1"}, {fin | text, "hello"}}},
			{"a pong after a message", hello + pong1, []frame{{fin | text, "hello"}}},
			{"a pong before a message", pong1 + hello, []frame{{fin | text, "hello"}}},
			{"the largest ping", masked(fin|ping, strings.Repeat("y", 125)), []frame{{fin | pong, strings.Repeat("y", 125)}}},
		} {
			p.write(test.send)
			for _, want := range test.back {
				require.Equal(t, want, p.next(), test.name)
			}
			idle()
		}

		p.write(hello[:3])
		require.Eventually(t, func() bool { return readers() == 1 }, 10*time.Second, time.Millisecond, "half a message has one")
		p.write(hello[3:])
		require.Equal(t, frame{fin | text, "hello"}, p.next())
		idle()
		p.Close()
	})
}

// What came in with the handshake's request is read before the watch reports anything.
func TestMessageThatComesWithTheRequestIsRead(t *testing.T) {
	overTCP(t, ws.Options{}, func(t *testing.T, n *network, _ *ws.Handler) {
		p := n.raw("/", masked(fin|text, "early")+masked(fin|ping, "1"))
		var got []string
		for len(got) < 3 {
			got = append(got, fmt.Sprint(p.next()))
		}
		require.Contains(t, got, fmt.Sprint(frame{fin | text, "early"}))
		require.Contains(t, got, fmt.Sprint(frame{fin | pong, "1"}))
		p.Close()
	})
}

// A peer that does not answer pings is cut, whether it is idle or has sent a part of a message
// or of a ping; one that answers stays.
func TestSilentPeerOfAWatchedConnectionIsCut(t *testing.T) {
	for name, sends := range map[string]string{
		"nothing": "", "half a message": masked(fin|text, "hello")[:8], "half a header": masked(fin|text, "hello")[:1], "half a ping": masked(fin|ping, "1")[:3],
		"a message": masked(fin|text, "hello"),
	} {
		t.Run(name, func(t *testing.T) {
			overTCP(t, ws.Options{PingInterval: 20 * time.Millisecond}, func(t *testing.T, n *network, h *ws.Handler) {
				p := n.raw("/", "")
				for pings := 0; pings < 5; {
					if f := p.next(); f.first == fin|ping {
						p.write(masked(fin|pong, ""))
						pings++
					}
				}
				p.write(sends)
				_, _ = io.ReadAll(p.r)
				awaitEnd(t, h)
				require.Equal(t, map[string]uint64{"peer silent": 1}, h.Stats().Ended)
			})
		})
	}
}

// An idle connection ends for each reason that a connection has, by both ends, and leaves no
// goroutine and no descriptor that is watched: TestMain looks for the watch's own goroutine.
func TestIdleWatchedConnectionEnds(t *testing.T) {
	for _, test := range []struct {
		name  string
		end   func(p *peer, h *ws.Handler, conn *ws.Conn, limit *middleware.Sessions)
		ended string
	}{
		{"the client closes", func(p *peer, _ *ws.Handler, _ *ws.Conn, _ *middleware.Sessions) {
			p.write(p.frames(frame{fin | clos, closing(1000, "")}))
		}, "closed by the client"},
		{"the client leaves", func(p *peer, _ *ws.Handler, _ *ws.Conn, _ *middleware.Sessions) { p.Close() }, "peer gone"},
		{"the client resets", func(p *peer, _ *ws.Handler, _ *ws.Conn, _ *middleware.Sessions) {
			p.Conn.(*net.TCPConn).SetLinger(0)
			p.Close()
		}, "peer gone"},
		{"the client ends its half", func(p *peer, _ *ws.Handler, _ *ws.Conn, _ *middleware.Sessions) {
			p.Conn.(*net.TCPConn).CloseWrite()
		}, "peer gone"},
		{"the client is not allowed", func(p *peer, _ *ws.Handler, _ *ws.Conn, _ *middleware.Sessions) { p.write("\xff\x80\x00\x00\x00\x00") }, "not the protocol"},
		{"CloseNow", func(_ *peer, _ *ws.Handler, c *ws.Conn, _ *middleware.Sessions) { c.CloseNow() }, "peer gone"},
		{"Close", func(p *peer, _ *ws.Handler, c *ws.Conn, _ *middleware.Sessions) {
			go c.Close(1000, "")
			p.closes(1000)
			p.write(p.frames(frame{fin | clos, closing(1000, "")}))
		}, "peer gone"},
		{"Hub.Close, answered", func(p *peer, h *ws.Handler, _ *ws.Conn, _ *middleware.Sessions) {
			h.Broadcaster.(*broadcast.Hub).Close()
			p.closes(1012)
			p.write(p.frames(frame{fin | clos, closing(1012, "")}))
			p.ends()
		}, "restart"},
		{"Hub.Close, not answered", func(p *peer, h *ws.Handler, _ *ws.Conn, _ *middleware.Sessions) {
			h.Broadcaster.(*broadcast.Hub).Close()
			p.closes(1012)
			_, _ = io.ReadAll(p.r)
		}, "restart"},
		{"a Disconnect", func(p *peer, _ *ws.Handler, _ *ws.Conn, l *middleware.Sessions) {
			l.Disconnect("everybody", 4000, "bye")
			p.closes(4000)
		}, "disconnected"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conns := make(chan *ws.Conn, 1)
			h := echoes(0, ws.Options{WriteTimeout: 200 * time.Millisecond}, true)
			receive := h.Receive
			h.Receive = func(r *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
				conns <- c
				return receive(r, c)
			}
			limit := &middleware.Sessions{Max: 1, Logger: silent, Key: func(*http.Request) string { return "everybody" }}
			serveTCP(t, limit.Handler(h), func(t *testing.T, n *network) {
				p := n.raw("/", "")
				p.next() // ready
				require.Eventually(t, func() bool { return readers() == 0 }, 10*time.Second, time.Millisecond)
				c := <-conns
				test.end(p, h, c, limit)
				awaitEnd(t, h)
				require.Equal(t, map[string]uint64{test.ended: 1}, h.Stats().Ended)
				<-c.Context().Done()
			})
		})
	}
}

// Messages in pieces of random sizes, with pings between them, come back whole and in order,
// and each ping is answered.
func TestWatchedConnectionsUnderRandomPieces(t *testing.T) {
	h := echoes(0, ws.Options{}, true)
	serveTCP(t, h, func(t *testing.T, n *network) {
		var group sync.WaitGroup
		for seed := range uint64(20) {
			p := n.raw("/", "")
			p.next() // ready
			group.Go(func() { p.randomPieces(rand.New(rand.NewPCG(seed, 0))) })
		}
		group.Wait()
		awaitEnd(t, h)
	})
}

// randomPieces sends messages and pings, and checks what comes back.
func (p *peer) randomPieces(random *rand.Rand) {
	var out strings.Builder
	var want []string
	pings := 0
	for i := range 100 {
		size := random.IntN(1 << random.IntN(14))
		data := fmt.Sprint(i, strings.Repeat("x", size))
		want = append(want, data)
		switch random.IntN(4) {
		case 0:
			pings++
			out.WriteString(masked(fin|ping, "p"))
			fallthrough
		case 1:
			out.WriteString(masked(text, data[:1]))
			out.WriteString(masked(fin|cont, data[1:]))
		default:
			out.WriteString(masked(fin|text, data))
		}
	}
	pieces := rand.New(rand.NewPCG(random.Uint64(), 1))
	go func() {
		for rest := out.String(); rest != ""; {
			size := min(len(rest), 1+pieces.IntN(1<<pieces.IntN(15)))
			if _, err := io.WriteString(p.Conn, rest[:size]); err != nil {
				return
			}
			rest = rest[size:]
			if pieces.IntN(4) == 0 {
				runtime.Gosched()
			}
		}
	}()
	for len(want) > 0 || pings > 0 {
		f := p.next()
		if f.first == fin|pong {
			pings--
			continue
		}
		if len(want) == 0 || f.payload != want[0] {
			p.t.Errorf("%v is not the next message", f)
			break
		}
		want = want[1:]
	}
	p.Close()
}

// An idle detached connection takes less than 4 KB of heap and stacks, both ends of it together:
// a goroutine alone would take up to 8.
func TestIdleWatchedConnectionTakesLittleMemory(t *testing.T) {
	h := &ws.Handler{Broadcaster: new(broadcast.Hub), Topics: []string{"a"}, Detach: true, Logger: silent,
		Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
			return func(ws.MessageType, []byte) error { return nil }
		}}
	serveTCP(t, h, func(t *testing.T, n *network) {
		var conns []net.Conn
		connect := func(clients int) int64 {
			for range clients {
				c, err := n.listener.DialContext(t.Context(), "", "")
				require.NoError(t, err)
				conns = append(conns, c)
				_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
					"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"+masked(fin|text, "hello"))
				require.NoError(t, err)
			}
			require.Eventually(t, func() bool {
				return h.Stats().Opened == uint64(len(conns)) && readers() == 0 && goroutines("net/http.(*conn).serve(") == 0
			}, 30*time.Second, 10*time.Millisecond)
			return memory()
		}
		few := connect(300) // with what all share
		const more = 1000
		each := (connect(more) - few) / more
		t.Logf("%d bytes", each)
		require.Less(t, each, int64(4<<10))
		require.NoError(t, h.Broadcaster.(*broadcast.Hub).Close())
		for _, c := range conns {
			c.Close()
		}
		awaitEnd(t, h)
	})
}

// memory returns the bytes of heap and stacks in use.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

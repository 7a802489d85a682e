package ws_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// A stream that ends gets the messages that were published before, and then a close
// frame with its code.
func TestEndsOfStreams(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(t *testing.T, n *network, hub *broadcast.Hub)
		idle bool // the stream has nothing to write
	}{
		{"Hub.Close", func(t *testing.T, n *network, hub *broadcast.Hub) { hub.Close() }, false},
		{"Hub.Close, idle", func(t *testing.T, n *network, hub *broadcast.Hub) { hub.Close() }, true},
		{"Server.Shutdown", func(t *testing.T, n *network, hub *broadcast.Hub) { n.server.Shutdown(context.Background()) }, false},
		{"Server.Shutdown, idle", func(t *testing.T, n *network, hub *broadcast.Hub) { n.server.Shutdown(context.Background()) }, true},
		{"MaxAge", func(*testing.T, *network, *broadcast.Hub) {}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub := &broadcast.Hub{Keep: 1000}
			h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Options: ws.Options{PingInterval: -1, MaxAge: 100 * time.Second}}
			serve(t, h, func(t *testing.T, n *network) {
				p := n.raw("/", "")
				p.receives(`{"ready":"` + position(t, hub) + `"}`)
				read := 0
				if test.idle {
					test.end(t, n, hub)
				} else { // the writer blocks in the first of many
					for i := range 300 {
						say(t, hub, "a", fmt.Sprint(i))
					}
					test.end(t, n, hub)
				}
				f := p.next()
				for ; f.first == fin|text; f = p.next() {
					require.Contains(t, f.payload, fmt.Sprintf(`"data":"%d"`, read))
					read++
				}
				if !test.idle {
					require.Equal(t, 300, read, "messages published before the end come first")
				}
				require.Equal(t, frame{fin | clos, closing(ws.StatusServiceRestart, "service restart")}, f)
				io.WriteString(p.Conn, masked(fin|clos, f.payload[:2]))
				p.ends()
				synctest.Wait()
			})
		})
	}
	t.Run("the request's context", func(t *testing.T) {
		hub := &broadcast.Hub{}
		h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}}
		ctx, cancel := context.WithCancel(context.Background())
		serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r.WithContext(ctx)) }), func(t *testing.T, n *network) {
			p := n.raw("/", "")
			p.receives(ready(position(t, hub)))
			cancel()
			p.closes(ws.StatusGoingAway)
			synctest.Wait()
		})
	})
}

// A stream that begins after Server.Shutdown was called, on a request from before, ends
// at once.
func TestShutdownDuringGrantEndsTheStream(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, nil, func(t *testing.T, n *network) {
		gate := make(chan struct{})
		n.server.Handler = &ws.Handler{Broadcaster: hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
			<-gate
			return &fanfare.Grant{Topics: []string{"a"}}, nil
		}}
		go func() {
			synctest.Wait()
			go n.server.Shutdown(context.Background())
			time.Sleep(time.Second)
			close(gate)
		}()
		p := n.raw("/", "")
		p.next()
		p.SetReadDeadline(time.Now().Add(29 * time.Second))
		f, err := readFrame(p.r, false)
		assert.NoError(t, err)
		assert.Equal(t, fin|clos, int(f.first))
		p.Close()
		time.Sleep(10 * time.Second)
	})
}

// While a Handler's stream ends, its Conn can neither write nor close, and what the peer
// sends does not change the reason: messages are discarded, and other bytes refused
// without a second close frame.
func TestConnWhileItsStreamEnds(t *testing.T) {
	for name, send := range map[string]string{"a message": masked(fin|text, "late"), "not UTF-8": masked(fin|text, "\xff")} {
		t.Run(name, func(t *testing.T) {
			hub := &broadcast.Hub{}
			conns := make(chan *ws.Conn, 1)
			var received atomic.Int32
			h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent,
				Receive: func(_ *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
					conns <- c
					return func(ws.MessageType, []byte) error { received.Add(1); return nil }
				}}
			serve(t, h, func(t *testing.T, n *network) {
				p := n.raw("/", "")
				p.next()
				c := <-conns
				hub.Close()
				require.Equal(t, frame{fin | clos, closing(ws.StatusServiceRestart, "service restart")}, p.next())
				synctest.Wait()
				require.ErrorIs(t, c.Write(t.Context(), ws.Text, []byte("x")), net.ErrClosed)
				require.ErrorIs(t, c.Close(ws.StatusNormalClosure, ""), net.ErrClosed)
				p.write(send)
				synctest.Wait()
				p.write(masked(fin|clos, closing(ws.StatusServiceRestart, "")))
				p.Close()
				<-c.Context().Done()
				synctest.Wait()
				require.Zero(t, received.Load())
				require.Equal(t, map[string]uint64{"restart": 1}, h.Stats().Ended)
			})
		})
	}
}

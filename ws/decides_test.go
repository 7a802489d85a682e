package ws_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// rest reads frames until the end of the connection.
func (p *peer) rest() (frames []frame) {
	p.SetReadDeadline(time.Now().Add(limit))
	for {
		f, err := readFrame(p.r, p.masked)
		if err != nil {
			return frames
		}
		frames = append(frames, f)
	}
}

// A Close that waits for a write has decided: what comes meanwhile is discarded, and not
// refused.
func TestCloseDecidesBeforeItWrites(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		closed := make(chan error, 1)
		n.server.Handler = upgraded(nil, func(c *ws.Conn) {
			c.CloseRead()
			go c.Write(context.Background(), ws.Text, []byte("slow"))
			time.Sleep(time.Second) // it waits for the peer
			closed <- c.Close(4000, "bye")
		})
		p := n.raw("/", "")
		time.Sleep(2 * time.Second)
		p.write(masked(fin|text, "on its way"))
		synctest.Wait()
		require.Equal(t, []frame{{fin | text, "slow"}, {fin | clos, closing(4000, "bye")}}, p.rest())
		require.NoError(t, <-closed)
	})
}

// Close is an error where the peer's close frame was answered, with the peer's code.
func TestCloseAfterThePeersIsAnError(t *testing.T) {
	for range 100 { // which goroutine comes first is chance
		serve(t, nil, func(t *testing.T, n *network) {
			conns := make(chan *ws.Conn, 1)
			n.server.Handler = upgraded(nil, func(c *ws.Conn) {
				conns <- c
				_, _, err := c.Read(context.Background())
				assert.Equal(t, ws.StatusCode(4001), ws.CloseStatus(err), "%v", err)
			})
			p := n.raw("/", "")
			c := <-conns
			p.write(masked(fin|clos, closing(4001, "peer")))
			synctest.Wait() // the answer is being written
			closed := make(chan error, 1)
			go func() {
				defer c.CloseNow() // does not cut the answer
				closed <- c.Close(4000, "ours")
			}()
			synctest.Wait()
			require.Equal(t, []frame{{fin | clos, closing(4001, "peer")}}, p.rest())
			require.ErrorIs(t, <-closed, net.ErrClosed)
		})
	}
}

// A message that is not expected decides the close frame, also where the client has sent one
// after it.
func TestRefusedMessageComesBeforeThePeersClose(t *testing.T) {
	for _, detach := range []bool{false, true} {
		for range 50 { // which goroutine comes first is chance
			h := &ws.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Logger: silent, Detach: detach}
			serve(t, h, func(t *testing.T, n *network) {
				p := n.raw("/", "")
				p.next()
				p.write(masked(fin|text, "no") + masked(fin|clos, closing(1000, "")))
				p.closes(ws.StatusPolicyViolation)
				synctest.Wait()
				require.Equal(t, map[string]uint64{"no message is expected": 1}, h.Stats().Ended)
			})
		}
	}
}

// Whatever the client sends while Close writes its frame, the frame goes out.
func TestBadBytesDuringCloseCutNothing(t *testing.T) {
	for what, wire := range map[string]string{"not UTF-8": masked(fin|text, "\xff"), "no such frame": masked(fin|3, "x")} {
		for _, detach := range []bool{false, true} {
			conns := make(chan *ws.Conn, 1)
			h := &ws.Handler{Broadcaster: &broadcast.Hub{}, Topics: []string{"a"}, Logger: silent, Detach: detach,
				Receive: func(_ *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
					conns <- c
					return func(ws.MessageType, []byte) error { return nil }
				}}
			serve(t, h, func(t *testing.T, n *network) {
				closed := make(chan error, 1)
				p := n.raw("/", "")
				p.next()
				c := <-conns
				go func() { closed <- c.Close(4002, "ours") }()
				synctest.Wait() // its frame is being written
				p.write(wire)
				synctest.Wait()
				require.Equal(t, []frame{{fin | clos, closing(4002, "ours")}}, p.rest(), what)
				require.NoError(t, <-closed, what)
			})
		}
	}
}

package ws_test

import (
	"context"
	"io"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

// ReadAhead reads up to its limit while no Read waits, begins with a Read whose context
// has ended, and returns the end of the connection after all messages.
func TestReadAhead(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		conns := make(chan *ws.Conn)
		n.server.Handler = upgraded(&ws.Options{PingInterval: -1}, func(c *ws.Conn) {
			conns <- c
			<-c.Context().Done()
		})
		p := n.raw("/", "")
		c := <-conns

		// A read whose context has ended goes on, and its message comes first.
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := c.Read(ended)
		require.ErrorIs(t, err, context.Canceled)
		c.ReadAhead(300)
		c.ReadAhead(1) // no effect any more

		p.write(masked(fin|text, "0"))
		p.write(masked(fin|ping, "are you there?"))
		require.Equal(t, frame{fin | pong, "are you there?"}, p.next(), "while no Read waits")

		// It stops at the limit, and goes on when Read returns messages.
		written := make(chan int, 10)
		go func() {
			for i := 1; i < 9; i++ {
				io.WriteString(p.Conn, masked(fin|text, strconv.Itoa(i)))
				written <- i
			}
			io.WriteString(p.Conn, masked(fin|clos, closing(1000, "")))
		}()
		synctest.Wait()
		require.Less(t, len(written), 6, "five small messages wait")
		for i := range 9 {
			_, data, err := c.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(i), string(data))
		}
		p.closes(1000)
		for range 2 {
			_, _, err = c.Read(t.Context())
			require.EqualValues(t, 1000, ws.CloseStatus(err), "the end stays the end")
		}
	})
	t.Run("Close", func(t *testing.T) {
		serve(t, nil, func(t *testing.T, n *network) {
			closed := make(chan error)
			n.server.Handler = upgraded(nil, func(c *ws.Conn) {
				c.ReadAhead(-1)
				time.Sleep(time.Second)
				closed <- c.Close(4000, "bye")
			})
			p := n.raw("/", "")
			p.write(masked(fin|text, "never read"))
			p.closes(4000)
			require.NoError(t, <-closed)
		})
	})
	t.Run("a peer that is silent", func(t *testing.T) {
		serve(t, nil, func(t *testing.T, n *network) {
			took := make(chan time.Duration)
			n.server.Handler = upgraded(nil, func(c *ws.Conn) {
				began := time.Now()
				c.ReadAhead(0)
				<-c.Context().Done()
				took <- time.Since(began)
			})
			p := n.raw("/", "")
			go io.Copy(io.Discard, p.Conn)
			require.Equal(t, time.Minute, <-took, "the silence is noticed")
		})
	})
}

package ws_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

// A peer gets a ping after each interval in which nothing came in, and is cut if it
// sends nothing from one ping to the next.
func TestKeepalive(t *testing.T) {
	t.Run("a silent peer gets a ping after one interval and is cut after two", func(t *testing.T) {
		serve(t, nil, func(t *testing.T, n *network) {
			ended := make(chan error, 1)
			n.server.Handler = echoServer(nil, ended)
			p := n.raw("/", "")
			began := time.Now()
			require.Equal(t, frame{fin | ping, ""}, p.next())
			require.Equal(t, 30*time.Second, time.Since(began))
			p.ends()
			require.Equal(t, 60*time.Second, time.Since(began))
			require.ErrorContains(t, <-ended, "silent")
		})
	})
	t.Run("a peer that answers stays connected", func(t *testing.T) {
		serve(t, nil, func(t *testing.T, n *network) {
			ended := make(chan error, 1)
			n.server.Handler = echoServer(nil, ended)
			c := n.dial("/", ws.Options{PingInterval: -1})
			c.CloseRead()
			time.Sleep(time.Hour)
			require.NoError(t, c.Context().Err())
			c.CloseNow()
			require.Error(t, <-ended)
		})
	})
	t.Run("no ping is sent if something came in", func(t *testing.T) {
		serve(t, nil, func(t *testing.T, n *network) {
			ended := make(chan error, 1)
			n.server.Handler = echoServer(nil, ended)
			p := n.raw("/", "")
			for range 20 {
				p.silent(20 * time.Second)
				p.write(masked(fin|text, "x"))
				p.receives("x")
			}
			p.Close()
			require.Error(t, <-ended)
		})
	})
	t.Run("silence does not count while nothing reads", func(t *testing.T) {
		serve(t, nil, func(t *testing.T, n *network) {
			ended := make(chan error, 1)
			n.server.Handler = upgraded(nil, func(c *ws.Conn) {
				time.Sleep(5 * time.Minute)
				_, data, err := c.Read(context.Background())
				assert.Equal(t, "late", string(data))
				ended <- err
			})
			p := n.raw("/", "")
			go io.Copy(io.Discard, p.Conn)
			p.write(masked(fin|text, "late"))
			require.NoError(t, <-ended)
		})
	})
}

// A ping that waits for a slow write does not count: the peer cannot have answered it.
func TestAPingThatWasNotSentNeedsNoAnswer(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		done := make(chan error, 1)
		n.server.Handler = upgraded(&ws.Options{PingInterval: time.Second, WriteTimeout: 10 * time.Second}, func(c *ws.Conn) {
			c.CloseRead()
			done <- c.Write(context.Background(), ws.Binary, make([]byte, 100))
			<-c.Context().Done()
		})
		p := n.raw("/", "")
		// It takes 4 s to read it, and answers each ping at once.
		time.Sleep(4 * time.Second)
		p.SetReadDeadline(time.Now().Add(limit))
		f, err := readFrame(p.r, false)
		assert.NoError(t, err)
		assert.Equal(t, fin|bin, int(f.first))
		assert.NoError(t, <-done)
		p.Close()
	})
}

// Proxies cut connections that are silent in one direction, so that a ping goes out
// every interval.
func TestAPongDoesNotDelayTheNextPing(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		ended := make(chan error, 1)
		n.server.Handler = echoServer(nil, ended)
		p := n.raw("/", "")
		began := time.Now()
		for i := 1; i <= 4; i++ {
			f := p.next()
			require.Equal(t, fin|ping, int(f.first))
			p.write(masked(fin|pong, f.payload))
			t.Log("ping after", time.Since(began))
			assert.LessOrEqual(t, time.Since(began), 31*time.Second)
			began = time.Now()
		}
		p.Close()
		<-ended
	})
}

// A connection is closed with 1012 after 80 to 100 % of MaxAge.
func TestMaxAge(t *testing.T) {
	serve(t, upgraded(&ws.Options{MaxAge: 100 * time.Second}, func(c *ws.Conn) { c.Read(context.Background()) }), func(t *testing.T, n *network) {
		c := n.dial("/", ws.Options{})
		began := time.Now()
		_, _, err := c.Read(context.Background())
		require.Equal(t, ws.StatusServiceRestart, ws.CloseStatus(err))
		require.GreaterOrEqual(t, time.Since(began), 80*time.Second)
		require.LessOrEqual(t, time.Since(began), 100*time.Second)
	})
}

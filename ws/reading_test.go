package ws_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

// A message larger than MaxMessage closes the connection with 1009, in whatever pieces
// it comes.
func TestMaxMessage(t *testing.T) {
	for name, send := range map[string]string{
		"in one frame":                 masked(fin|text, strings.Repeat("x", 1025)),
		"in fragments":                 masked(text, strings.Repeat("x", 1024)) + masked(fin|cont, "x"),
		"in a frame that is not whole": masked(fin|text, strings.Repeat("x", 1<<20))[:2000],
	} {
		t.Run(name, func(t *testing.T) {
			for _, piece := range []int{1, 1 << 30} {
				serve(t, nil, func(t *testing.T, n *network) {
					ended := make(chan error, 1)
					n.server.Handler = echoServer(&ws.Options{MaxMessage: 1024}, ended)
					p := n.raw("/", "")
					go p.trickle(send, piece)
					p.closes(1009)
					p.Close()
					require.Equal(t, ws.StatusMessageTooBig, ws.CloseStatus(<-ended))
				})
			}
		})
	}
}

// The HTTP server may have read them before the connection is hijacked.
func TestBytesSentWithTheHandshakeAreRead(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		ended := make(chan error, 1)
		n.server.Handler = echoServer(nil, ended)
		p := n.raw("/", masked(fin|text, "early")+masked(fin|text, strings.Repeat("x", 700)))
		p.receives("early", strings.Repeat("x", 700))
		p.Close()
		require.Error(t, <-ended)
	})
}

// The next Read returns the message.
func TestReadWhoseContextEndsLosesNothing(t *testing.T) {
	serve(t, upgraded(nil, func(c *ws.Conn) {
		for range 3 {
			ctx, cancel := context.WithTimeout(c.Context(), time.Second)
			_, _, err := c.Read(ctx)
			cancel()
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		}
		time.Sleep(time.Second) // messages arrive while no Read waits
		for _, want := range []string{"one", "two"} {
			_, data, err := c.Read(context.Background())
			assert.NoError(t, err)
			assert.Equal(t, want, string(data))
		}
		c.Close(1000, "")
	}), func(t *testing.T, n *network) {
		p := n.raw("/", "")
		time.Sleep(3500 * time.Millisecond)
		p.write(masked(fin|text, "one") + masked(fin|text, "two"))
		p.closes(1000)
	})
}

// If the connection ends within a message, Read returns an error, and no part of the
// message.
func TestConnectionCutWithinAMessage(t *testing.T) {
	for _, size := range []int{1, 100, 511, 512, 513, 1024, 5000} {
		for _, compression := range []bool{false, true} {
			serve(t, nil, func(t *testing.T, n *network) {
				ended := make(chan error, 1)
				n.server.Handler = upgraded(&ws.Options{Compression: compression}, func(c *ws.Conn) {
					_, _, err := c.Read(context.Background())
					ended <- err
				})
				p, _ := n.offer("/", "permessage-deflate")
				p.write(header(fin|text, 0x80, 20_000) + "\x00\x00\x00\x00" + strings.Repeat("x", size))
				p.Close()
				require.ErrorContains(t, <-ended, "ended without a close frame", "after %d bytes", size)
			})
			serve(t, nil, func(t *testing.T, n *network) {
				p, c := n.accept(ws.Options{Compression: compression}, "")
				go func() {
					p.trickle(header(fin|text, 0, 20_000)+strings.Repeat("x", size), 1<<30)
					p.Close()
				}()
				_, _, err := c.Read(context.Background())
				require.ErrorContains(t, err, "ended without a close frame", "after %d bytes", size)
			})
		}
	}
}

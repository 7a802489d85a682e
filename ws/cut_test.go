package ws_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

// TestMessageThatIsCut ends a connection in the middle of a message, wherever that is:
// what has come of it is no message.
func TestMessageThatIsCut(t *testing.T) {
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

package ws_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

// upgraded is a handler that calls serve with each connection, and ends it when serve
// returns.
func upgraded(o *ws.Options, serve func(c *ws.Conn)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := ws.Upgrade(w, r, o)
		if err != nil {
			return
		}
		defer c.CloseNow()
		serve(c)
	})
}

// echo sends back each message until the connection ends, and returns the error of
// that.
func echo(c *ws.Conn) error {
	for {
		typ, data, err := c.Read(context.Background())
		if err != nil {
			return err
		}
		if err := c.Write(context.Background(), typ, data); err != nil {
			return err
		}
	}
}

func echoServer(o *ws.Options, ended chan<- error) http.Handler {
	return upgraded(o, func(c *ws.Conn) { ended <- echo(c) })
}

// Around each size at which the header of a frame or the way of writing changes.
func TestMessagesOfAllSizesArriveUnchanged(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		ended := make(chan error, 1) // made in the bubble: only then does time go on while it is waited for
		n.server.Handler = echoServer(&ws.Options{MaxMessage: 2 << 20}, ended)
		c := n.dial("/", ws.Options{MaxMessage: 2 << 20})
		for _, size := range []int{0, 1, 125, 126, 511, 512, 513, 4096, 4097, 65535, 65536, 1 << 20} {
			for typ, data := range map[ws.MessageType]string{
				ws.Text:   strings.Repeat("é", size/2) + strings.Repeat("x", size%2),
				ws.Binary: strings.Repeat("\xff\x00", size/2) + strings.Repeat("\xfe", size%2),
			} {
				require.NoError(t, c.Write(t.Context(), typ, []byte(data)))
				gotType, got, err := c.Read(t.Context())
				require.NoError(t, err)
				require.Equal(t, typ, gotType)
				require.True(t, data == string(got), "%d bytes", size)
			}
		}
		require.NoError(t, c.Close(ws.StatusNormalClosure, "done"))
		require.Equal(t, &ws.CloseError{Code: ws.StatusNormalClosure, Reason: "done"}, <-ended)
	})
}

// An error of encoding or decoding, and a message that cannot be sent, leave the
// connection open.
func TestJSON(t *testing.T) {
	serve(t, upgraded(nil, func(c *ws.Conn) {
		var v struct{ N int }
		assert.ErrorContains(t, c.ReadJSON(context.Background(), &v), "JSON")
		assert.NoError(t, c.ReadJSON(context.Background(), &v), "the connection stays")
		v.N++
		assert.NoError(t, c.WriteJSON(context.Background(), v))
		assert.Error(t, c.WriteJSON(context.Background(), make(chan int)))
		for _, cut := range []any{"a\xe2\x82", []string{"\xff"}, map[string]any{"\xff": 1}} {
			assert.ErrorContains(t, c.WriteJSON(context.Background(), cut), "UTF-8", "json.Marshal would change it")
		}
		assert.ErrorContains(t, c.Write(context.Background(), ws.Text, []byte("\xff")), "Binary")
		assert.Error(t, c.Write(context.Background(), 7, nil))
		c.Close(1000, "")
	}), func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.write(masked(fin|text, "{") + masked(fin|text, `{"N":1}`))
		p.receives(`{"N":2}`)
		p.closes(1000)
	})
}

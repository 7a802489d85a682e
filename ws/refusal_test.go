package ws_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

// The reason in the error of Read is that of the close frame.
func TestReadAndThePeerGetTheSameRefusal(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		ended := make(chan error, 1)
		n.server.Handler = echoServer(&ws.Options{MaxMessage: 1000}, ended)
		p := n.raw("/", "")
		go io.WriteString(p.Conn, masked(fin|text, strings.Repeat("x", 2000)))
		reason := p.closes(1009)
		var ce *ws.CloseError
		require.ErrorAs(t, <-ended, &ce)
		require.Equal(t, ce.Reason, reason)
	})
}

// The peer gets 1007, and so does Read.
func TestCloseReasonThatIsNotUTF8IsRefused(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		ended := make(chan error, 1)
		n.server.Handler = echoServer(nil, ended)
		p := n.raw("/", "")
		p.write(masked(fin|clos, closing(1000, "\xff")))
		p.closes(1007)
		err := <-ended
		var ce *ws.CloseError
		require.ErrorAs(t, err, &ce)
		assert.EqualValues(t, 1007, ce.Code)
		assert.True(t, utf8.ValidString(ce.Reason), "%q", ce.Reason)
	})
}

// With 1008, which is also the cause of the Context.
func TestCloseReadRefusesMessages(t *testing.T) {
	serve(t, upgraded(nil, func(c *ws.Conn) {
		c.CloseRead()
		<-c.Context().Done()
		assert.Equal(t, ws.StatusPolicyViolation, ws.CloseStatus(context.Cause(c.Context())))
	}), func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.write(masked(fin|text, "hi"))
		p.closes(ws.StatusPolicyViolation)
	})
}

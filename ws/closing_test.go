package ws_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/ws"
)

// A close frame with a reason that is not UTF-8 would itself be refused.
func TestReasonOfReceiveBecomesUTF8(t *testing.T) {
	hub := &broadcast.Hub{}
	serve(t, &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Logger: silent,
		Receive: func(*http.Request, *ws.Conn) func(ws.MessageType, []byte) error {
			return func(_ ws.MessageType, b []byte) error { return &ws.CloseError{Code: 4001, Reason: "no room \xff"} }
		}}, func(t *testing.T, n *network) {
		p := n.raw("/", "")
		p.next()
		p.write(masked(fin|text, "A"))
		got := p.closes(4001)
		require.True(t, utf8.ValidString(got), "%q", got)
	})
}

// Whoever sends such a reason is told 1007, and so is whoever reads.
func TestReasonThatIsNotUTF8(t *testing.T) {
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

// Read says what its own side did, also where the peer has answered.
func TestReadAfterClose(t *testing.T) {
	serve(t, upgraded(nil, func(c *ws.Conn) {
		assert.NoError(t, c.Close(1000, "done"))
		_, _, err := c.Read(context.Background())
		assert.ErrorIs(t, err, net.ErrClosed)
	}), func(t *testing.T, n *network) {
		n.raw("/", "").closes(1000)
		synctest.Wait()
	})
}

// The close frame waits for its turn behind a write that is cut.
func TestCloseThatCannotSend(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		done := make(chan error)
		n.server.Handler = upgraded(&ws.Options{WriteTimeout: 4 * time.Second}, func(c *ws.Conn) {
			go c.Write(context.Background(), ws.Text, []byte("stuck"))
			synctest.Wait()
			done <- c.Close(1000, "")
		})
		n.raw("/", "")
		require.Error(t, <-done)
	})
}

// CloseRead refuses messages, but not those that cross a close frame.
func TestCloseDiscardsWhatWasOnItsWay(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		done := make(chan error)
		n.server.Handler = upgraded(nil, func(c *ws.Conn) {
			c.CloseRead()
			synctest.Wait()
			assert.NoError(t, c.Close(4000, "bye"))
			done <- context.Cause(c.Context())
		})
		p := n.raw("/", "")
		f := p.next()
		require.Equal(t, fin|clos, int(f.first))
		p.write(masked(fin|text, "was on its way"))
		synctest.Wait()
		_, err := io.WriteString(p.Conn, masked(fin|clos, f.payload[:2]))
		assert.NoError(t, err, "the server waits for the answer")
		assert.ErrorIs(t, <-done, net.ErrClosed)
	})
}

// What crosses a close frame may be anything.
func TestCloseWhileTooMuchComes(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		done := make(chan error)
		n.server.Handler = upgraded(&ws.Options{MaxMessage: 1000}, func(c *ws.Conn) {
			time.Sleep(time.Second)
			done <- c.Close(4000, "bye")
		})
		p := n.raw("/", "")
		f := p.next()
		require.Equal(t, fin|clos, int(f.first))
		_, err := io.WriteString(p.Conn, masked(fin|text, strings.Repeat("x", 5000)))
		assert.NoError(t, err, "what comes meanwhile is discarded")
		<-done
	})
}

// Even without deadlines CloseNow is the end.
func TestCloseNowBehindAStuckWrite(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		done := make(chan error, 1)
		n.server.Handler = upgraded(&ws.Options{WriteTimeout: -1}, func(c *ws.Conn) {
			go c.Write(context.Background(), ws.Text, []byte("stuck"))
			go c.Read(context.Background())
			time.Sleep(time.Second)
			c.CloseNow()
			c.Close(1000, "")
			select {
			case <-c.Context().Done():
				done <- nil
			case <-time.After(time.Hour):
				done <- errors.New("it is still there after an hour")
			}
		})
		p := n.raw("/", "")
		synctest.Wait()
		p.write(masked(fin|text, "\xff"))
		require.NoError(t, <-done)
		p.Close()
	})
}

// Read and the wire name the same limit.
func TestTooBigIsToldAlike(t *testing.T) {
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

package ws_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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

// refused is a connection whose peer has sent text that is not UTF-8 and has not read
// the close frame yet, so that the server's Read is still writing it.
func refused(n *network, o ws.Options) (p *peer, c *ws.Conn, ended <-chan error) {
	conns := make(chan *ws.Conn, 1)
	errs := make(chan error, 1)
	n.server.Handler = upgraded(&o, func(c *ws.Conn) {
		conns <- c
		_, _, err := c.Read(context.Background())
		errs <- err
		<-c.Context().Done()
	})
	p = n.raw("/", "")
	c = <-conns
	p.write(masked(fin|text, "\xff"))
	synctest.Wait()
	return p, c, errs
}

// Close and CloseNow leave a refusal to its end: the peer gets the close frame, and
// Read the refusal.
func TestRefusalIsNotReplacedByClose(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		p, c, ended := refused(n, ws.Options{})
		began := time.Now()
		require.ErrorIs(t, c.Close(ws.StatusNormalClosure, "bye"), net.ErrClosed)
		require.NoError(t, c.CloseNow())
		require.Zero(t, time.Since(began))
		p.closes(ws.StatusInvalidFramePayloadData)
		require.Equal(t, ws.StatusInvalidFramePayloadData, ws.CloseStatus(<-ended))
		require.Equal(t, ws.StatusInvalidFramePayloadData, ws.CloseStatus(context.Cause(c.Context())))
		require.ErrorIs(t, c.Close(ws.StatusNormalClosure, "bye"), net.ErrClosed)
		require.ErrorIs(t, c.Write(t.Context(), ws.Text, []byte("x")), net.ErrClosed)
	})
}

// A peer that never reads its close frame is cut after WriteTimeout, and Read still
// returns the refusal.
func TestRefusalTakesNoLongerThanWriteTimeout(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		_, c, ended := refused(n, ws.Options{WriteTimeout: 4 * time.Second})
		began := time.Now()
		require.Equal(t, ws.StatusInvalidFramePayloadData, ws.CloseStatus(<-ended))
		<-c.Context().Done()
		require.Equal(t, 4*time.Second, time.Since(began))
	})
}

// While a write blocks, the close frame of a refusal waits for it: it follows the whole
// frame, or is not sent if the peer does not read that. Without a write deadline the
// connection is cut after 10 s.
func TestRefusalWhileAWriteBlocks(t *testing.T) {
	for _, reads := range []bool{true, false} {
		serve(t, nil, func(t *testing.T, n *network) {
			conns := make(chan *ws.Conn, 1)
			wrote, ended := make(chan error, 1), make(chan error, 1)
			n.server.Handler = upgraded(&ws.Options{WriteTimeout: -1}, func(c *ws.Conn) {
				conns <- c
				go func() { wrote <- c.Write(context.Background(), ws.Text, []byte("blocked")) }()
				_, _, err := c.Read(context.Background())
				ended <- err
				<-c.Context().Done()
			})
			p := n.raw("/", "")
			c := <-conns
			synctest.Wait()
			p.write(masked(fin|text, "\xff"))
			synctest.Wait()
			began := time.Now()
			if reads {
				p.receives("blocked")
				p.closes(ws.StatusInvalidFramePayloadData)
				require.NoError(t, <-wrote)
			} else {
				require.Error(t, <-wrote)
				require.Equal(t, 10*time.Second, time.Since(began))
			}
			require.Equal(t, ws.StatusInvalidFramePayloadData, ws.CloseStatus(<-ended))
			require.Equal(t, ws.StatusInvalidFramePayloadData, ws.CloseStatus(context.Cause(c.Context())))
		})
	}
}

// After a refusal, what the peer goes on to send is read: its writes do not fail before
// it has seen the close frame.
func TestRefusalReadsOn(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		p, _, ended := refused(n, ws.Options{})
		f := p.next()
		require.Equal(t, fin|clos, int(f.first))
		require.Error(t, <-ended)
		for range 100 {
			p.write(masked(fin|text, strings.Repeat("x", 1000)))
		}
		p.Close()
	})
}

package ws_test

import (
	"context"
	"errors"
	"io"
	"net"
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

// Close sends the codes of the registry and of the ranges for applications, and refuses
// all others.
func TestCloseCodes(t *testing.T) {
	for _, code := range codes() {
		serve(t, upgraded(nil, func(c *ws.Conn) {
			err := c.Close(code, "bye")
			assert.Equal(t, legal(code), err == nil, "%d: %v", code, err)
		}), func(t *testing.T, n *network) {
			p := n.raw("/", "")
			if legal(code) {
				require.Equal(t, "bye", p.closes(code))
			}
		})
	}
}

// A control frame has room for 123 bytes of it (RFC 6455 section 5.5).
func TestCloseTruncatesTheReasonBetweenRunes(t *testing.T) {
	for _, reason := range []string{strings.Repeat("x", 200), strings.Repeat("é", 100), strings.Repeat("日本", 40), "a\xff" + strings.Repeat("y", 130)} {
		serve(t, upgraded(nil, func(c *ws.Conn) { assert.NoError(t, c.Close(1000, reason)) }), func(t *testing.T, n *network) {
			got := n.raw("/", "").closes(1000)
			require.LessOrEqual(t, len(got), 123)
			require.GreaterOrEqual(t, len(got), 120)
			require.True(t, utf8.ValidString(got))
		})
	}
}

// Whatever the peer does, Close returns after WriteTimeout, and the connection has
// ended.
func TestCloseTakesNoLongerThanWriteTimeout(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(c *ws.Conn)
		reads  bool
	}{
		{"a peer that does not answer", func(*ws.Conn) {}, true},
		{"a peer that does not even read", func(*ws.Conn) {}, false},
		{"while a write blocks", func(c *ws.Conn) {
			go c.Write(context.Background(), ws.Text, []byte("stuck"))
			synctest.Wait()
		}, false},
		{"while a Read waits", func(c *ws.Conn) {
			go c.Read(context.Background())
			synctest.Wait()
		}, true},
		{"after a Read whose context has ended", func(c *ws.Conn) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			c.Read(ctx)
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			serve(t, nil, func(t *testing.T, n *network) {
				done := make(chan struct{}) // made in the bubble: only then does time go on while it is waited for
				n.server.Handler = upgraded(&ws.Options{WriteTimeout: 4 * time.Second}, func(c *ws.Conn) {
					defer close(done)
					test.before(c)
					began := time.Now()
					c.Close(1000, "")
					assert.Equal(t, 4*time.Second, time.Since(began))
					assert.Error(t, c.Context().Err())
					_, _, err := c.Read(context.Background())
					assert.ErrorIs(t, err, net.ErrClosed)
					assert.ErrorIs(t, c.Write(context.Background(), ws.Text, nil), net.ErrClosed)
					assert.Error(t, c.Close(1000, ""), "it is closed")
				})
				p := n.raw("/", "")
				if test.reads {
					go io.Copy(io.Discard, p.Conn)
				}
				<-done
			})
		})
	}
}

// Also if the peer has answered with a close frame.
func TestReadAfterCloseReturnsErrClosed(t *testing.T) {
	serve(t, upgraded(nil, func(c *ws.Conn) {
		assert.NoError(t, c.Close(1000, "done"))
		_, _, err := c.Read(context.Background())
		assert.ErrorIs(t, err, net.ErrClosed)
	}), func(t *testing.T, n *network) {
		n.raw("/", "").closes(1000)
		synctest.Wait()
	})
}

// The close frame waits for a write that is cut at its deadline.
func TestCloseReportsThatItCouldNotSend(t *testing.T) {
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

// CloseRead refuses messages, but not those that the peer sent before it got the close
// frame.
func TestCloseDiscardsMessagesInFlight(t *testing.T) {
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

// What the peer sends before it gets the close frame is discarded, even a message that
// is too large.
func TestCloseRefusesNothing(t *testing.T) {
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
		assert.NoError(t, err, "it is read and discarded")
		<-done
	})
}

// Without a write deadline CloseNow ends the connection too.
func TestCloseNowEndsABlockedWrite(t *testing.T) {
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

// CloseNow ends the wait of a Close for the peer's answer.
func TestCloseNowDuringClose(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		conns := make(chan *ws.Conn, 1)
		closed := make(chan error, 1)
		n.server.Handler = upgraded(nil, func(c *ws.Conn) {
			conns <- c
			closed <- c.Close(4000, "bye")
		})
		p := n.raw("/", "")
		c := <-conns
		require.Equal(t, fin|clos, int(p.next().first))
		synctest.Wait()
		began := time.Now()
		require.NoError(t, c.CloseNow())
		require.ErrorIs(t, context.Cause(c.Context()), net.ErrClosed)
		require.NoError(t, <-closed, "the close frame was sent")
		require.Zero(t, time.Since(began))
		p.ends()
	})
}

// If both sides close at once, each sends one close frame, and Read and the Context
// return that Close was called.
func TestPeerClosesWhileOurCloseFrameIsWritten(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		closed, ended := make(chan error, 1), make(chan error, 1)
		n.server.Handler = upgraded(nil, func(c *ws.Conn) {
			go func() {
				_, _, err := c.Read(context.Background())
				ended <- err
			}()
			closed <- c.Close(4000, "ours")
			assert.ErrorIs(t, context.Cause(c.Context()), net.ErrClosed)
		})
		p := n.raw("/", "")
		synctest.Wait() // Close writes
		p.write(masked(fin|clos, closing(4001, "the peer's")))
		synctest.Wait()
		require.Equal(t, frame{fin | clos, closing(4000, "ours")}, p.next())
		p.ends()
		require.NoError(t, <-closed)
		require.ErrorIs(t, <-ended, net.ErrClosed)
	})
}

// Of several Closes one sends its close frame, and the others return an error at once.
func TestConcurrentClose(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		errs := make(chan error, 10)
		n.server.Handler = upgraded(nil, func(c *ws.Conn) {
			for i := range cap(errs) {
				go func() { errs <- c.Close(ws.StatusCode(4000+i), "") }()
			}
			<-c.Context().Done()
		})
		p := n.raw("/", "")
		for range cap(errs) - 1 {
			require.ErrorIs(t, <-errs, net.ErrClosed)
		}
		f := p.next()
		require.Equal(t, fin|clos, int(f.first))
		p.write(masked(fin|clos, f.payload))
		require.NoError(t, <-errs)
		p.ends()
	})
}

// A connection that the peer has closed cannot be closed again, and CloseNow may be
// called at any time.
func TestCloseAfterTheEnd(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		done := make(chan struct{})
		n.server.Handler = upgraded(nil, func(c *ws.Conn) {
			defer close(done)
			assert.Equal(t, ws.StatusCode(4001), ws.CloseStatus(echo(c)))
			assert.ErrorIs(t, c.Close(1000, ""), net.ErrClosed)
			assert.NoError(t, c.CloseNow())
			assert.NoError(t, c.CloseNow())
			assert.Equal(t, ws.StatusCode(4001), ws.CloseStatus(echo(c)), "Read returns its error again")
			assert.Equal(t, ws.StatusCode(4001), ws.CloseStatus(context.Cause(c.Context())))
		})
		p := n.raw("/", "")
		p.write(masked(fin|clos, closing(4001, "")))
		p.closes(4001)
		<-done
	})
}

// A client's close frame ends the connection also while a write has no deadline and waits for
// the client, which does not read.
func TestCloseFrameOfAClientThatDoesNotReadEndsTheConnection(t *testing.T) {
	for _, detach := range []bool{false, true} {
		hub := new(broadcast.Hub)
		h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Detach: detach, Logger: silent, Options: ws.Options{WriteTimeout: -1, PingInterval: -1}}
		serve(t, h, func(t *testing.T, n *network) {
			p := n.raw("/", "")
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: []byte("unread")})
			require.NoError(t, err)
			synctest.Wait()
			p.write(p.frames(frame{fin | clos, closing(1000, "")}))
			time.Sleep(11 * time.Second)
			require.Zero(t, h.Stats().Open)
		})
	}
}

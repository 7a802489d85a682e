package ws_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

// If the context ends while Write waits for another Write, nothing was sent and the
// connection stays open.
func TestWriteWaitsForAnotherNoLongerThanItsContext(t *testing.T) {
	serve(t, upgraded(nil, func(c *ws.Conn) {
		stuck := make(chan error, 1)
		go func() { stuck <- c.Write(context.Background(), ws.Text, []byte("slow")) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		assert.ErrorIs(t, c.Write(ctx, ws.Text, []byte("never")), context.DeadlineExceeded)
		assert.NoError(t, <-stuck, "the connection stays open")
		assert.NoError(t, c.Write(context.Background(), ws.Text, []byte("then")))
		c.Close(1000, "")
	}), func(t *testing.T, n *network) {
		p := n.raw("/", "")
		time.Sleep(5 * time.Second)
		p.receives("slow", "then")
		p.closes(1000)
	})
}

// Each ping is answered in order, in the middle of whatever else is sent.
func TestEachPingIsAnswered(t *testing.T) {
	for _, s := range subjects {
		for _, count := range []int{1, 2, 10, 64} {
			for _, piece := range []int{1 << 20, 1} { // in one piece, and byte by byte
				t.Run(fmt.Sprint(s.name, "/", count, " in pieces of ", piece), func(t *testing.T) {
					serve(t, nil, func(t *testing.T, n *network) {
						p, _ := s.connect(n, ws.Options{})
						var pings []frame
						for i := range count {
							pings = append(pings, frame{fin | ping, fmt.Sprint(i, strings.Repeat("x", i))})
						}
						go p.trickle(p.frames(pings...), piece)
						for _, sent := range pings {
							require.Equal(t, frame{fin | pong, sent.payload}, p.next())
						}
						p.Close()
					})
				})
			}
		}
	}
}

// Pings are read while a write blocks, and the newest 64 of them are answered after it.
func TestPingsAreReadDuringAWrite(t *testing.T) {
	for _, count := range []int{10, 64, 65, 1000} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			serve(t, nil, func(t *testing.T, n *network) {
				ended := make(chan error, 1)
				n.server.Handler = upgraded(nil, func(c *ws.Conn) {
					c.CloseRead()
					ended <- c.Write(context.Background(), ws.Binary, make([]byte, 1<<20))
					<-c.Context().Done()
				})
				p := n.raw("/", "")
				synctest.Wait()
				// The server's Write blocks, and its Read does not.
				for i := range count {
					p.write(masked(fin|ping, fmt.Sprint(i)))
				}
				synctest.Wait()
				f := p.next()
				require.Len(t, f.payload, 1<<20, "the frame is finished first")
				for i := max(0, count-64); i < count; i++ {
					require.Equal(t, frame{fin | pong, fmt.Sprint(i)}, p.next())
				}
				require.NoError(t, <-ended)
				p.silent(time.Second)
				p.Close()
			})
		})
	}
}

// Write returns an error after WriteTimeout, and the connection has ended.
func TestWriteTimeoutCutsAPeerThatDoesNotRead(t *testing.T) {
	serve(t, nil, func(t *testing.T, n *network) {
		ended := make(chan error, 1)
		n.server.Handler = upgraded(&ws.Options{WriteTimeout: 3 * time.Second}, func(c *ws.Conn) {
			c.CloseRead()
			began := time.Now()
			err := c.Write(context.Background(), ws.Text, []byte("x"))
			assert.Equal(t, 3*time.Second, time.Since(began))
			<-c.Context().Done()
			ended <- err
		})
		n.raw("/", "")
		require.Error(t, <-ended)
	})
}

// unreachable is a connection whose writes fail once it is told to, and whose Close takes a
// moment.
type unreachable struct {
	net.Conn
	fails atomic.Bool
}

var errUnreachable = errors.New("no route to host")

func (u *unreachable) Write(b []byte) (int, error) {
	if u.fails.Load() {
		return 0, errUnreachable
	}
	return u.Conn.Write(b)
}

func (u *unreachable) Close() error {
	err := u.Conn.Close()
	time.Sleep(time.Second)
	return err
}

// After a failed write a Read says why the connection has ended. It is not closed by this
// side, as net.ErrClosed would say.
func TestReadReturnsWhyAWriteFailed(t *testing.T) {
	serve(t, upgraded(nil, func(c *ws.Conn) { _ = echo(c) }), func(t *testing.T, n *network) {
		u := &unreachable{}
		n.client.Transport = &http.Transport{DialContext: func(ctx context.Context, network, address string) (_ net.Conn, err error) {
			u.Conn, err = n.listener.DialContext(ctx, network, address)
			return u, err
		}}
		c := n.dial("/", ws.Options{})
		read := make(chan error, 1)
		go func() {
			_, _, err := c.Read(context.Background())
			read <- err
		}()
		synctest.Wait()
		u.fails.Store(true)
		assert.ErrorIs(t, c.Write(t.Context(), ws.Text, []byte("lost")), errUnreachable)
		err := <-read
		assert.ErrorIs(t, err, errUnreachable)
		assert.NotErrorIs(t, err, net.ErrClosed)
		<-c.Context().Done()
		assert.ErrorIs(t, context.Cause(c.Context()), errUnreachable)
		time.Sleep(time.Minute) // until it is closed
	})
}

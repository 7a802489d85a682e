package clustertest_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	ct "github.com/fanfare-go/fanfare/internal/clustertest"
)

// echo returns the address of an engine that sends back what it gets.
func echo(t *testing.T) func() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 1)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String
}

// dial connects through a proxy.
func dial(t *testing.T, p *ct.Proxy) net.Conn {
	c, err := net.Dial("tcp", p.Address)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// send sends a byte, and expect waits for it.
func send(t *testing.T, c net.Conn, b byte) {
	_, err := c.Write([]byte{b})
	require.NoError(t, err)
}

func expect(t *testing.T, c net.Conn, b byte) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	got := make([]byte, 1)
	_, err := c.Read(got)
	require.NoError(t, err)
	require.Equal(t, b, got[0])
}

// silentFor checks that nothing comes for a moment, and that the connection does not end.
func silentFor(t *testing.T, c net.Conn, d time.Duration) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(d)))
	_, err := c.Read(make([]byte, 1))
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), "%v", err)
}

// A proxy that holds keeps everything, and forwards it later.
func TestProxyHolds(t *testing.T) {
	p := ct.NewProxy(t, echo(t))
	c := dial(t, p)
	send(t, c, 1)
	expect(t, c, 1)
	p.Hold()
	send(t, c, 2)
	late := dial(t, p)
	send(t, late, 3)
	silentFor(t, c, 50*time.Millisecond)
	silentFor(t, late, 50*time.Millisecond)
	p.Release()
	expect(t, c, 2)
	expect(t, late, 3)
}

// A half-open connection stays silent for good, while new ones work.
func TestProxyHalfOpen(t *testing.T) {
	p := ct.NewProxy(t, echo(t))
	c := dial(t, p)
	send(t, c, 1)
	expect(t, c, 1)
	p.HalfOpen()
	send(t, c, 2)
	silentFor(t, c, 50*time.Millisecond)
	other := dial(t, p)
	send(t, other, 3)
	expect(t, other, 3)
	silentFor(t, c, 50*time.Millisecond)
}

// A proxy that cuts breaks all connections, and accepts none until it is released.
func TestProxyCuts(t *testing.T) {
	p := ct.NewProxy(t, echo(t))
	c := dial(t, p)
	send(t, c, 1)
	expect(t, c, 1)
	p.Cut()
	b := make([]byte, 1)
	for _, broken := range []net.Conn{c, dial(t, p)} {
		require.NoError(t, broken.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, err := broken.Read(b)
		require.Error(t, err)
		var timeout net.Error
		require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the connection is not broken")
	}
	p.Release()
	again := dial(t, p)
	send(t, again, 2)
	expect(t, again, 2)
}

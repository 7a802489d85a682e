//go:build linux && !386 && !s390x

package tcp_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

// The Fd method of a connection's os.File puts the socket that both share into blocking mode.
// An Attempt still does not wait for a client that does not read.
func TestAttemptNeverBlocksOnASocketInBlockingMode(t *testing.T) {
	for _, size := range []int{1, 4 << 10, 1 << 20} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		client, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer client.Close()
		server, err := l.Accept()
		require.NoError(t, err)
		defer server.Close()
		require.NoError(t, server.(*net.TCPConn).SetWriteBuffer(4<<10))
		require.NoError(t, client.(*net.TCPConn).SetReadBuffer(4<<10))
		raw := tcp.Raw(server)
		require.NoError(t, raw.Control(func(fd uintptr) { require.NoError(t, syscall.SetNonblock(int(fd), false)) }))
		full := make(chan error, 1)
		go func() {
			var a tcp.Attempt
			for {
				if n, err := a.Write(raw, make([]byte, size)); n == 0 || err != nil {
					full <- err
					return
				}
			}
		}()
		select {
		case err := <-full:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			client.Close() // which ends the write
			t.Fatalf("a write of %d bytes waits", size)
		}
	}
}

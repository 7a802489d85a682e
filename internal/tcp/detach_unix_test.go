//go:build unix

package tcp_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

// detachedPair returns a detached connection and its peer.
func detachedPair(t *testing.T) (net.Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { peer.Close() })
	server, err := l.Accept()
	require.NoError(t, err)
	c := new(tcp.Detached).Detach(server)
	t.Cleanup(func() { c.Close() })
	require.NotSame(t, server, c)
	require.ErrorIs(t, server.SetDeadline(time.Time{}), net.ErrClosed, "the socket is not the net.Conn's any more")
	return c, peer.(*net.TCPConn)
}

// A detached connection goes on where the net.Conn was, and its end is the connection's.
func TestDetach(t *testing.T) {
	c, peer := detachedPair(t)
	for _, text := range []string{"first", "second"} {
		_, err := io.WriteString(c, text)
		require.NoError(t, err)
		got := make([]byte, len(text))
		_, err = io.ReadFull(peer, got)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
	require.NoError(t, c.Close())
	_, err := peer.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	_, err = io.WriteString(c, "late")
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, c.Close(), net.ErrClosed)
}

// Only the socket of a TCP connection is taken: what a wrapper does would be missed.
func TestDetachOfAWrapper(t *testing.T) {
	wrapper := struct{ net.Conn }{}
	require.Equal(t, net.Conn(wrapper), new(tcp.Detached).Detach(wrapper))
}

// A write waits for a peer that reads late, and all of it arrives in order, also by the raw
// connection afterwards.
func TestDetachedWriteWaits(t *testing.T) {
	c, peer := detachedPair(t)
	const size = 16 << 20 // more than the kernel takes
	sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		written <- err
	}()
	got := make([]byte, size)
	_, err := io.ReadFull(peer, got)
	require.NoError(t, err)
	require.NoError(t, <-written)
	require.True(t, bytes.Equal(sent, got))

	var attempt tcp.Attempt
	n, err := attempt.Write(tcp.Raw(c), []byte("more"))
	require.NoError(t, err)
	require.Equal(t, 4, n)
	_, err = io.ReadFull(peer, got[:4])
	require.NoError(t, err)
	require.Equal(t, "more", string(got[:4]))
	require.NoError(t, c.Close())
	_, err = peer.Read(got)
	require.ErrorIs(t, err, io.EOF)
}

// A deadline ends a write that waits, whether it was set before or meanwhile, and each write
// after it, and is lifted by another.
func TestDetachedDeadline(t *testing.T) {
	for name, set := range map[string]func(c net.Conn, write func() error) error{
		"before": func(c net.Conn, write func() error) error {
			_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			return write()
		},
		"meanwhile": func(c net.Conn, write func() error) error {
			failed := make(chan error)
			go func() { failed <- write() }()
			_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			return <-failed
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := detachedPair(t)
			err := set(c, func() error {
				_, err := c.Write(make([]byte, 32<<20))
				return err
			})
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			go io.Copy(io.Discard, peer)
			_, err = io.WriteString(c, "late")
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, c.SetWriteDeadline(time.Time{}))
			_, err = io.WriteString(c, "again")
			require.NoError(t, err)
		})
	}
	t.Run("has passed", func(t *testing.T) {
		c, _ := detachedPair(t)
		require.NoError(t, c.SetWriteDeadline(time.Now()))
		_, err := io.WriteString(c, "late")
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

// Reads wait, also for the peer's answer to the end of the writing half, and a deadline ends them.
func TestDetachedRead(t *testing.T) {
	c, peer := detachedPair(t)
	got := make(chan string, 1)
	go func() {
		b := make([]byte, 5)
		_, _ = io.ReadFull(c, b)
		got <- string(b)
	}()
	_, err := io.WriteString(peer, "hello")
	require.NoError(t, err)
	require.Equal(t, "hello", <-got)

	tcp.CloseWrite(c)
	_, err = peer.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = io.WriteString(peer, "late")
	require.NoError(t, err)
	var reader tcp.Reader
	var buffers tcp.Buffers
	reader.Reset(c, &buffers, nil)
	require.ErrorIs(t, reader.Fill(), os.ErrDeadlineExceeded, "also of what does not have to wait")
	require.NoError(t, c.SetDeadline(time.Time{}))
	require.NoError(t, reader.Fill())
	require.Equal(t, "late", string(reader.Unread()))
}

// Close ends what waits, from any goroutine, and deadlines that are set meanwhile do not change
// that. Only one of several calls closes the connection.
func TestDetachedCloseEndsWhatWaits(t *testing.T) {
	for name, wait := range map[string]func(c net.Conn) error{
		"a read":      func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err },
		"a write":     func(c net.Conn) error { _, err := c.Write(make([]byte, 32<<20)); return err },
		"a raw read":  func(c net.Conn) error { return tcp.Raw(c).Read(func(uintptr) bool { return false }) },
		"a raw write": func(c net.Conn) error { return tcp.Raw(c).Write(func(uintptr) bool { return false }) },
		"several": func(c net.Conn) error {
			go c.Read(make([]byte, 1))
			_, err := c.Write(make([]byte, 32<<20))
			return err
		},
		"a late reader": func(c net.Conn) error { c.Close(); _, err := c.Read(make([]byte, 1)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				c, peer := detachedPair(t)
				ended := make(chan error)
				go func() { ended <- wait(c) }()
				closed := make(chan error)
				for range 2 {
					go func() { closed <- c.Close() }()
				}
				_ = c.SetDeadline(time.Now().Add(time.Hour))
				require.ErrorIs(t, <-ended, net.ErrClosed)
				<-closed
				<-closed
				_, err := io.Copy(io.Discard, peer)
				require.NoError(t, err)
			}
		})
	}
}

// A call that uses the descriptor has it until it returns, also if Close is called meanwhile: it
// does not reach another connection that has got it.
func TestDetachedDescriptorIsNotAnothers(t *testing.T) {
	for name, use := range map[string]func(raw syscall.RawConn, f func(fd uintptr)) error{
		"Control": func(raw syscall.RawConn, f func(uintptr)) error { return raw.Control(f) },
		"Read": func(raw syscall.RawConn, f func(uintptr)) error {
			return raw.Read(func(fd uintptr) bool { f(fd); return true })
		},
		"Write": func(raw syscall.RawConn, f func(uintptr)) error {
			return raw.Write(func(fd uintptr) bool { f(fd); return true })
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := detachedPair(t)
			var other net.Conn
			var otherPeer *net.TCPConn
			require.NoError(t, use(tcp.Raw(c), func(fd uintptr) {
				require.NoError(t, c.Close())
				other, otherPeer = detachedPair(t)
				_, err := syscall.Write(int(fd), []byte("x"))
				require.NoError(t, err)
			}))
			got, err := io.ReadAll(peer)
			require.NoError(t, err)
			require.Equal(t, "x", string(got))
			other.Close()
			got, err = io.ReadAll(otherPeer)
			require.NoError(t, err)
			require.Empty(t, got)
			require.ErrorIs(t, use(tcp.Raw(c), func(uintptr) { t.Error("it is closed") }), net.ErrClosed)
		})
	}
}

// A process that is started does not inherit the socket: the client would not see its end.
func TestDetachedIsClosedOnExec(t *testing.T) {
	c, _ := detachedPair(t)
	require.NoError(t, tcp.Socket(c).Control(func(fd uintptr) {
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFD, 0)
		require.Zero(t, errno)
		require.NotZero(t, flags&syscall.FD_CLOEXEC)
	}))
}

package tcp_test

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

// plainConn is a connection without writev, as one under TLS is. It records its writes.
type plainConn struct {
	net.Conn
	writes []string
}

func (c *plainConn) Write(b []byte) (int, error) {
	c.writes = append(c.writes, string(b))
	return len(b), nil
}

func TestWriteJoinsBuffersWithoutWritev(t *testing.T) {
	var buffers tcp.Buffers
	var c plainConn
	long := strings.Repeat("x", 1<<20)
	for _, parts := range []net.Buffers{{[]byte("one")}, {[]byte("a"), []byte("b"), []byte("c")}, {[]byte(long), []byte("end")}} {
		want := string(bytes.Join(parts, nil))
		require.NoError(t, buffers.Write(&c, parts))
		require.Equal(t, []string{want}, c.writes, "all in one write")
		c.writes = nil
	}
}

func TestAttemptNeverBlocks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	server, err := l.Accept()
	require.NoError(t, err)
	defer server.Close()

	var buffers tcp.Buffers
	require.NoError(t, buffers.Write(server, net.Buffers{[]byte("a"), []byte("b")}))
	var a tcp.Attempt
	raw := tcp.Raw(server)
	if raw == nil {
		t.Skip("this system has no writes that do not block")
	}
	n, err := a.Write(raw, []byte("c"))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	got := make([]byte, 3)
	_, err = client.Read(got)
	require.NoError(t, err)

	// The client does not read: some is written, then nothing.
	block := make([]byte, 1<<20)
	for i := 0; ; i++ {
		n, err := a.Write(raw, block)
		require.NoError(t, err)
		if n == 0 {
			break
		}
		require.Less(t, i, 1000)
	}
	require.NoError(t, server.Close())
	_, err = a.Write(raw, block)
	require.ErrorIs(t, err, net.ErrClosed)
}

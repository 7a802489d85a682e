package tcp_test

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

// counted is a connection of no special kind, as one under TLS is.
type counted struct {
	net.Conn
	writes []string
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes = append(c.writes, string(b))
	return len(b), nil
}

func TestWriterJoins(t *testing.T) {
	var w tcp.Buffers
	var c counted
	long := strings.Repeat("x", 1<<20)
	for _, buffers := range []net.Buffers{{[]byte("one")}, {[]byte("a"), []byte("b"), []byte("c")}, {[]byte(long), []byte("end")}} {
		want := string(bytes.Join(buffers, nil))
		require.NoError(t, w.Write(&c, buffers))
		require.Equal(t, []string{want}, c.writes, "in one write, so that under TLS it is one run of large records")
		c.writes = nil
	}
}

func TestWriterOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	server, err := l.Accept()
	require.NoError(t, err)
	defer server.Close()

	var w tcp.Buffers
	require.NoError(t, w.Write(server, net.Buffers{[]byte("a"), []byte("b")}))
	var a tcp.Attempt
	raw := tcp.Raw(server)
	if raw == nil {
		t.Skip("no writes without waiting here")
	}
	n, err := a.Write(raw, []byte("c"))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	got := make([]byte, 3)
	_, err = client.Read(got)
	require.NoError(t, err)

	// A client that does not read: some of it goes, then nothing, and nobody waits.
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

package tcp_test

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

func TestReaderReadsEverythingInOrder(t *testing.T) {
	for _, over := range []string{"tcp", "a connection without a raw one"} {
		t.Run(over, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			client, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer client.Close()
			server, err := l.Accept()
			require.NoError(t, err)
			defer server.Close()
			if over != "tcp" {
				server = struct{ net.Conn }{server}
			}

			var r tcp.Reader
			r.Reset(server, new(tcp.Buffers), []byte("already "))
			require.Positive(t, r.Buffered())
			sent := strings.Repeat("0123456789", 2000)
			go func() {
				_, _ = io.WriteString(client, sent)
			}()
			got := make([]byte, len("already ")+len(sent))
			_, err = io.ReadFull(iotest.OneByteReader(&r), got[:100])
			require.NoError(t, err)
			_, err = io.ReadFull(&r, got[100:])
			require.NoError(t, err)
			require.Equal(t, "already "+sent, string(got))
			require.Zero(t, r.Buffered())

			require.NoError(t, server.SetReadDeadline(time.Now()))
			_, err = r.Read(got)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, server.SetReadDeadline(time.Time{}))
			_, err = io.WriteString(client, "more")
			require.NoError(t, err)
			_, err = io.ReadFull(&r, got[:4])
			require.NoError(t, err)
			require.Equal(t, "more", string(got[:4]), "a deadline loses nothing")

			require.NoError(t, client.(*net.TCPConn).CloseWrite())
			_, err = r.Read(got)
			require.Equal(t, io.EOF, err)
			require.NoError(t, server.Close())
			_, err = r.Read(got)
			require.ErrorIs(t, err, net.ErrClosed)
		})
	}
}

func TestReaderReportsAReset(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err := l.Accept()
	require.NoError(t, err)
	defer server.Close()
	var r tcp.Reader
	r.Reset(server, new(tcp.Buffers), nil)
	require.NoError(t, client.(*net.TCPConn).SetLinger(0))
	require.NoError(t, client.Close())
	_, err = r.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotEqual(t, io.EOF, err, "a reset is not an end")
}

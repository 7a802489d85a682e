package delivery_test

import (
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// What a client that keeps up gets in one write costs no goroutine, however many frames it is:
// the worker itself writes them, and does not leave the other streams. A Worker without workers
// cannot leave, so that a write that waits panics here.
func TestAWorkerWritesManyFramesItself(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	server, err := l.Accept()
	require.NoError(t, err)
	defer server.Close()
	raw := tcp.Raw(server)
	if raw == nil {
		t.Skip("this system has no writes that do not block")
	}
	var pool tcp.Buffers
	var worker delivery.Worker
	deadline := delivery.Deadline{Of: server, Timeout: 10 * time.Second}
	for _, frames := range []int{1, 2, 256, 3} {
		var buffers net.Buffers
		want := ""
		for i := range frames {
			text := "frame " + strconv.Itoa(i) + "\n"
			buffers, want = append(buffers, []byte(text)), want+text
		}
		require.NotPanics(t, func() { err = delivery.Write(server, raw, &pool, &deadline, buffers, &worker) })
		require.NoError(t, err)
		got := make([]byte, len(want))
		_, err = io.ReadFull(client, got)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

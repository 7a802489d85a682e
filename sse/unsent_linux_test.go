package sse_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// The kernel holds little unsent data while a stream is open. The limit is lifted for the next
// response on the connection.
func TestUnsentLimitEndsWithTheStream(t *testing.T) {
	var hub broadcast.Hub
	var conn atomic.Pointer[net.TCPConn]
	server := httptest.NewUnstartedServer(&sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: new(logbook).logger()})
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		conn.Store(c.(*net.TCPConn))
		return sse.ConnContext(ctx, c)
	}
	server.Start()
	defer server.Close()
	unsent := func() (bytes int) {
		raw, err := conn.Load().SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) {
			bytes, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 0x19) // TCP_NOTSENT_LOWAT
		}))
		require.NoError(t, err)
		return bytes
	}
	response, err := server.Client().Get(server.URL + "/?poll=1&lastEventId=" + position(t, &hub))
	require.NoError(t, err)
	defer response.Body.Close()
	require.Positive(t, unsent())
	publish(t, &hub, "a", "ends the poll")
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return unsent() == 0 }, 5*time.Second, time.Millisecond)
	require.Equal(t, http.StatusOK, response.StatusCode)
}

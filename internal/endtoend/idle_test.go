//go:build linux && !race

package endtoend_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// A stream on which nothing happens takes no more memory than this: heap and stacks after a
// garbage collection, and the stacks before one, which say what its goroutines have needed while
// it began. Each bound is a sixth above what was measured.
func TestAnIdleStreamTakesLittleMemory(t *testing.T) {
	var hub broadcast.Hub
	defer hub.Close()
	topics := []string{"a"}
	grant := func(*http.Request) (*fanfare.Grant, error) { return &fanfare.Grant{Topics: topics}, nil }
	for _, c := range []struct {
		name         string
		handler      http.Handler
		live, stacks float64 // KB per stream
	}{
		{"event stream", &sse.Handler{Broadcaster: &hub, Topics: topics}, 30, 12},
		{"event stream, detached", &sse.Handler{Broadcaster: &hub, Topics: topics, Detach: true}, 0.95, 1},
		{"event stream, detached, with a Grant", &sse.Handler{Broadcaster: &hub, Grant: grant, Detach: true}, 0.95, 1},
		{"WebSocket", &ws.Handler{Broadcaster: &hub, Topics: topics}, 36, 19},
		{"WebSocket, detached", &ws.Handler{Broadcaster: &hub, Topics: topics, Detach: true}, 2.1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, isWebSocket := c.handler.(*ws.Handler)
			live, stacks := memoryOfIdle(t, c.handler, isWebSocket)
			t.Logf("%.2f KB of heap and stack, %.2f KB of stacks before the collection", live, stacks)
			require.Less(t, live, c.live)
			require.Less(t, stacks, c.stacks)
		})
	}
}

// memoryOfIdle returns how many KB a stream takes: heap and stacks after a garbage collection,
// and stacks before it.
func memoryOfIdle(t *testing.T, h http.Handler, isWebSocket bool) (live, stacks float64) {
	const streams = 500
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: h}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	stats := h.(interface{ Stats() fanfare.StreamStats }).Stats
	sockets := make([]int, 0, streams+1)
	defer func() {
		for _, fd := range sockets {
			_ = syscall.Close(fd)
		}
		server.Close()
		<-served
		require.Eventually(t, func() bool { return stats().Open == 0 }, 30*time.Second, 10*time.Millisecond, "what ends later is not counted as the next one's")
	}()
	sockets = append(sockets, openRaw(t, l.Addr().String(), isWebSocket)) // what all share
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	before := memoryNow(true)
	for range streams {
		sockets = append(sockets, openRaw(t, l.Addr().String(), isWebSocket))
	}
	require.Eventually(t, func() bool { return stats().Open == streams+1 }, 30*time.Second, 10*time.Millisecond)
	peak := memoryNow(false)
	after := memoryNow(true)
	inKB := func(bytes uint64) float64 { return float64(int64(bytes)) / streams / 1024 }
	return inKB(after.HeapAlloc + after.StackInuse - before.HeapAlloc - before.StackInuse), inKB(peak.StackInuse - before.StackInuse)
}

func memoryNow(collect bool) (m runtime.MemStats) {
	if collect {
		runtime.GC()
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m
}

// openRaw opens a stream and returns its socket, which takes no memory of this process's heap.
func openRaw(t *testing.T, address string, isWebSocket bool) (fd int) {
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer c.Close()
	request := "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
	if isWebSocket {
		request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	}
	_, err = fmt.Fprint(c, request, "\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Less(t, response.StatusCode, 300)
	file, err := c.(*net.TCPConn).File()
	require.NoError(t, err)
	defer file.Close()
	fd, err = syscall.Dup(int(file.Fd()))
	require.NoError(t, err)
	return fd
}

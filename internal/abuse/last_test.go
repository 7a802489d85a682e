package abuse_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// Clients that never read pin what their streams are writing, and not all of the Last
// messages that they begin with, which the Hub has evicted since.
func TestClientsThatDoNotReadPinNoLastMessages(t *testing.T) {
	t.Run("of 16 KiB", func(t *testing.T) { testPinned(t, 16<<10, 512<<10) })
	t.Run("of 64 KiB", func(t *testing.T) { testPinned(t, 64<<10, 1536<<10) })
}

// testPinned measures the heap of clients that do not read messages of this size.
func testPinned(t *testing.T, message int, most int64) {
	const (
		kept   = 8 << 20
		rounds = 5
	)
	hub := &broadcast.Hub{Keep: 4096, KeepBytes: kept}
	grant := func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Last: 4096}, nil
	}
	mux := http.NewServeMux()
	handlers := map[string]http.Handler{
		"/attached/events": &sse.Handler{Broadcaster: hub, Grant: grant, CacheBytes: -1, Options: sse.Options{WriteTimeout: -1}},
		"/detached/events": &sse.Handler{Broadcaster: hub, Grant: grant, CacheBytes: -1, Options: sse.Options{WriteTimeout: -1}, Detach: true},
		"/attached/ws":     &ws.Handler{Broadcaster: hub, Grant: grant, CacheBytes: -1, Options: ws.Options{WriteTimeout: -1}},
		"/detached/ws":     &ws.Handler{Broadcaster: hub, Grant: grant, CacheBytes: -1, Options: ws.Options{WriteTimeout: -1}, Detach: true},
	}
	for path, h := range handlers {
		mux.Handle(path, h)
	}
	server := httptest.NewUnstartedServer(mux)
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(32 << 10) // full soon
		return sse.ConnContext(ctx, c)
	}
	server.Start()
	defer server.Close()
	defer server.CloseClientConnections() // also where the test fails
	defer hub.Close()
	turnOver := func() { // the Hub evicts all that it has
		for range 2 * kept / message {
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Data: bytes.Repeat([]byte("x"), message)})
			require.NoError(t, err)
		}
	}
	turnOver()
	before := inUse()
	for i := range rounds {
		for path, h := range handlers {
			c, err := net.Dial("tcp", server.Listener.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			require.NoError(t, c.(*net.TCPConn).SetReadBuffer(16<<10))
			written := statsOf(h).Bytes
			_, err = io.WriteString(c, request(path))
			require.NoError(t, err)
			require.Eventually(t, func() bool { // it has begun, and then nothing more is written
				before, stats := written, statsOf(h)
				written = stats.Bytes
				return stats.Behind == i+1 && written == before
			}, 20*time.Second, 20*time.Millisecond)
		}
		turnOver()
	}
	clients := int64(rounds * len(handlers))
	require.EqualValues(t, clients, hub.Stats().Subscriptions)
	used := inUse() - before
	t.Logf("%d KiB of heap for each of %d clients", used/clients>>10, clients)
	require.LessOrEqual(t, used/clients, most)
}

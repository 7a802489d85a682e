package abuse_test

import (
	"context"
	"fmt"
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

// Clients that begin with 10,000 Keys and never read pin what their streams are writing, however
// the Keys change.
func TestClientsThatDoNotReadPinNoBeginning(t *testing.T) {
	const keys, clients, most = 10_000, 20, 100 << 10
	hub := new(broadcast.Hub)
	defer hub.Close()
	publish := func() {
		for i := range keys {
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Key: fmt.Sprint(i), Data: []byte(fmt.Sprintf("%0100d", i))})
			require.NoError(t, err)
		}
	}
	publish()
	grant := func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Beginning: true}, nil
	}
	for path, h := range map[string]http.Handler{
		"/events": &sse.Handler{Broadcaster: hub, Grant: grant, CacheBytes: -1, Detach: true, Options: sse.Options{WriteTimeout: -1}},
		"/ws":     &ws.Handler{Broadcaster: hub, Grant: grant, CacheBytes: -1, Detach: true, Options: ws.Options{WriteTimeout: -1}},
	} {
		t.Run(path, func(t *testing.T) {
			server := httptest.NewUnstartedServer(h)
			server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
				_ = c.(*net.TCPConn).SetWriteBuffer(32 << 10) // full soon
				return sse.ConnContext(ctx, c)
			}
			server.Start()
			defer server.Close()
			before := inUse()
			var conns []net.Conn
			for i := range clients {
				c, err := net.Dial("tcp", server.Listener.Addr().String())
				require.NoError(t, err)
				conns = append(conns, c)
				_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
				_, err = io.WriteString(c, request(path))
				require.NoError(t, err)
				require.Eventually(t, func() bool { return hub.Stats().Subscriptions > i }, 10*time.Second, time.Millisecond)
			}
			for range 3 {
				publish()
			}
			require.Eventually(t, func() bool { return inUse()-before <= clients*most }, 10*time.Second, 100*time.Millisecond,
				"a client takes more than %d KB", most>>10)
			require.Equal(t, clients, hub.Stats().Subscriptions, "they have not been cut")
			for _, c := range conns {
				require.NoError(t, c.Close())
			}
			require.Eventually(t, func() bool { publish(); return hub.Stats().Subscriptions == 0 }, 10*time.Second, time.Millisecond)
		})
	}
}

package middleware_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// A stream's snapshot has a fingerprint of its key, never the key, which may be a secret.
func TestSessionOfAStream(t *testing.T) {
	sum := sha256.Sum256([]byte("ann"))
	fingerprint := hex.EncodeToString(sum[:8])
	hub := new(broadcast.Hub)
	type streamer interface {
		http.Handler
		Streams(most int) []fanfare.StreamInfo
	}
	for _, test := range []struct {
		name     string
		handler  streamer
		detached bool
	}{
		{"event stream", &sse.Handler{Broadcaster: hub, Topics: []string{"news"}, Logger: silent}, false},
		{"detached event stream", &sse.Handler{Broadcaster: hub, Topics: []string{"news"}, Detach: true, Logger: silent}, true},
		{"WebSocket", &ws.Handler{Broadcaster: hub, Topics: []string{"news"}, Logger: silent}, false},
		{"detached WebSocket", &ws.Handler{Broadcaster: hub, Topics: []string{"news"}, Detach: true, Logger: silent}, true},
	} {
		for key, want := range map[string]string{"ann": fingerprint, "": ""} {
			t.Run(test.name+" of "+key, func(t *testing.T) {
				sessions := &middleware.Sessions{Key: func(*http.Request) string { return key }, Logger: silent}
				inside := new(middleware.Drain) // middleware between that knows no key
				server := httptest.NewUnstartedServer(sessions.Handler(inside.Handler(test.handler)))
				server.Config.ConnContext = sse.ConnContext
				server.Start()
				t.Cleanup(server.Close)
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
				require.NoError(t, err)
				if _, ok := test.handler.(*ws.Handler); ok {
					conn, err := ws.Dial(t.Context(), server.URL, nil)
					require.NoError(t, err)
					t.Cleanup(func() { _ = conn.CloseNow() })
				} else {
					response, err := server.Client().Do(r)
					require.NoError(t, err)
					t.Cleanup(func() { _ = response.Body.Close() })
				}
				var infos []fanfare.StreamInfo
				require.Eventually(t, func() bool {
					infos = test.handler.Streams(2)
					return len(infos) == 1 && infos[0].Detached == test.detached
				}, 10*time.Second, time.Millisecond)
				require.Equal(t, want, infos[0].Session)
			})
		}
	}
}

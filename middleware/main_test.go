package middleware_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	chi "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/sse"
)

func TestMain(m *testing.M) { leak.Main(m) }

var silent = slog.New(slog.DiscardHandler)

func get(target string) *http.Request { return httptest.NewRequest("GET", target, nil) }

func publish(t testing.TB, hub *broadcast.Hub, text string) {
	t.Helper()
	_, err := hub.Publish(context.Background(), broadcast.Message{Topic: "news", Data: []byte(text)})
	require.NoError(t, err)
}

func news(hub *broadcast.Hub) *sse.Handler {
	return &sse.Handler{Broadcaster: hub, Topics: []string{"news"}, Logger: silent}
}

// chains are middleware that would end or hold back a stream without Bypass.
var chains = map[string]func(http.Handler) http.Handler{
	"http.TimeoutHandler": func(next http.Handler) http.Handler { return http.TimeoutHandler(next, 30*time.Second, "too late") },
	"chi Timeout":         chi.Timeout(30 * time.Second),
	"both, and compression": func(next http.Handler) http.Handler {
		return chi.Compress(5, "text/*")(http.TimeoutHandler(chi.Timeout(20*time.Second)(next), 30*time.Second, "too late"))
	},
}

type pipes struct{}

func (pipes) Pipe() (client, server net.Conn) { return net.Pipe() }

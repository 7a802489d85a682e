package proxies_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

var silent = slog.New(slog.DiscardHandler)

// backend is a server that a proxy sends requests to.
type backend struct {
	hub     *broadcast.Hub
	drain   *middleware.Drain
	address string
	streams atomic.Int64 // open ones
	refused refusals
}

// newBackend runs a server until the test ends. Its streams under /quick have heartbeats and
// pings four times a second, and those under /mute have none.
func newBackend(t *testing.T, journal broadcast.Journal, drain *middleware.Drain) *backend {
	t.Helper()
	b := &backend{hub: &broadcast.Hub{Journal: journal, Logger: silent}, drain: drain}
	drain.Logger = slog.New(&b.refused)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		if journal != nil {
			_ = b.hub.Run(ctx)
		}
	}()

	const quick = 250 * time.Millisecond
	streams := http.NewServeMux()
	for prefix, every := range map[string]time.Duration{"": 0, "/quick": quick, "/mute": -1} {
		streams.Handle("GET "+prefix+"/events", &sse.Handler{
			Broadcaster: b.hub,
			Topics:      []string{"news"},
			Options:     sse.Options{Heartbeat: every, Retry: 20 * time.Millisecond},
			Logger:      silent,
		})
		streams.Handle("GET "+prefix+"/ws", &ws.Handler{
			Broadcaster: b.hub,
			Topics:      []string{"news"},
			Options:     ws.Options{PingInterval: every},
			Logger:      silent,
			Receive: func(r *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
				ctx := r.Context()
				return func(typ ws.MessageType, p []byte) error { return c.Write(ctx, typ, p) }
			},
		})
	}
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.streams.Add(1)
		defer b.streams.Add(-1)
		streams.ServeHTTP(w, r)
	})
	origins := &middleware.Origins{Logger: silent} // allows only the same host
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", drain.Ready)
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css")
		_, _ = w.Write(make([]byte, 4096)) // large enough to be compressed
	})
	mux.Handle("/", origins.Handler(drain.Handler(counted)))

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b.address = listener.Addr().String()
	server := &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = b.hub.Close()
		_ = server.Close()
		<-served
		cancel()
		<-ran
	})
	return b
}

// publish publishes to this server's hub.
func (b *backend) publish(t *testing.T, data string) {
	t.Helper()
	_, err := b.hub.Publish(t.Context(), broadcast.Message{Topic: "news", Data: []byte(data)})
	require.NoError(t, err)
}

// refusals is a log handler that counts records. A Drain logs only refusals.
type refusals struct{ n atomic.Int64 }

func (r *refusals) Enabled(context.Context, slog.Level) bool  { return true }
func (r *refusals) Handle(context.Context, slog.Record) error { r.n.Add(1); return nil }
func (r *refusals) WithAttrs([]slog.Attr) slog.Handler        { return r }
func (r *refusals) WithGroup(string) slog.Handler             { return r }

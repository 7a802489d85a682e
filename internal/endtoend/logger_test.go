package endtoend_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// busyLogger is a slog.Handler that does with each record what a Logger may do: it calls
// use, but for the records that use causes itself.
type busyLogger struct {
	state *busyState
}

type busyState struct {
	mu    sync.Mutex
	seen  map[string]int
	depth atomic.Int32 // records that are being handled
	over  atomic.Bool  // nothing more is done with them
	use   func(record string)
}

func (l busyLogger) Enabled(context.Context, slog.Level) bool { return true }
func (l busyLogger) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l busyLogger) WithGroup(string) slog.Handler            { return l }
func (l busyLogger) Handle(_ context.Context, r slog.Record) error {
	l.state.mu.Lock()
	l.state.seen[r.Message]++
	l.state.mu.Unlock()
	if l.state.depth.Add(1) <= 8 && !l.state.over.Load() { // what it does is logged as well
		l.state.use(r.Message)
	}
	l.state.depth.Add(-1)
	return nil
}

// Nothing is logged with a lock held, and no stream waits for a Logger: it may publish, ask
// for Stats, disconnect, connect and be refused.
func TestALoggerMayUseEverything(t *testing.T) {
	var hub broadcast.Hub
	state := &busyState{seen: map[string]int{}}
	logger := slog.New(busyLogger{state: state})
	grant := func(r *http.Request) (*fanfare.Grant, error) {
		switch r.URL.Query().Get("who") {
		case "nobody":
			return nil, &fanfare.Refusal{Status: 403}
		case "panics":
			panic("in Grant")
		}
		g := &fanfare.Grant{Topics: []string{"a"}, Last: 5, Change: func([]string) (*fanfare.Grant, error) { return nil, errors.New("no change") }}
		if r.URL.Query().Get("who") == "stateless" {
			g.Snapshot = func(context.Context) ([]broadcast.Message, error) { return nil, errors.New("no state") }
		}
		if r.URL.Query().Get("who") == "filtered" {
			g.Filter = func(*broadcast.Message) bool { panic("in Filter") }
		}
		return g, nil
	}
	encode := func(*broadcast.Message) (sse.Event, bool) { panic("in Encode") }
	limit := &middleware.Limit{PerKey: 1000, Logger: logger, Key: func(r *http.Request) string { return r.URL.Query().Get("key") }}
	sessions := &middleware.Sessions{Max: 1000, Logger: logger, Key: limit.Key}
	full := &middleware.Limit{Total: 1, Logger: logger}
	drain := &middleware.Drain{Logger: logger}
	mux := http.NewServeMux()
	handlers := map[string]interface {
		http.Handler
		Stats() fanfare.StreamStats
	}{
		"/events":          &sse.Handler{Broadcaster: &hub, Grant: grant, Encode: encode, Logger: logger},
		"/events/detached": &sse.Handler{Broadcaster: &hub, Grant: grant, Encode: encode, Logger: logger, Detach: true},
		"/ws":              &ws.Handler{Broadcaster: &hub, Grant: grant, Logger: logger, Encode: func(*broadcast.Message) (ws.MessageType, []byte, bool) { panic("in Encode") }},
		"/ws/detached":     &ws.Handler{Broadcaster: &hub, Grant: grant, Logger: logger, Encode: ws.Raw, Detach: true},
	}
	for path, h := range handlers {
		mux.Handle(path, limit.Handler(sessions.Handler(h)))
		mux.Handle("/full"+path, full.Handler(h))
		mux.Handle("/timeout"+path, withDeadline(h))
	}
	origins, token := &middleware.Origins{Logger: logger}, &middleware.Token{Query: "token", Logger: logger}
	mux.Handle("/outer", token.Handler(origins.Handler(drain.Handler(handlers["/events"]))))
	server := httptest.NewServer(mux)
	defer server.Close()

	connect := func(path string, header ...string) { connectOnce(t, server.URL, path, header...) }
	state.use = func(string) {
		_, err := hub.Publish(context.Background(), broadcast.Message{Topic: "a", Data: []byte("from the Logger")})
		assert.True(t, err == nil || errors.Is(err, broadcast.ErrClosed))
		hub.Stats()
		for path, h := range handlers {
			h.Stats()
			connect(path + "?key=logger")
			connect(path + "?who=nobody")
			connect("/timeout" + path)
		}
		sessions.Disconnect("logger", 0, "")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var all sync.WaitGroup
		for path := range handlers {
			for _, query := range []string{"", "?who=nobody", "?who=panics", "?who=stateless", "?who=filtered", "?key=gone"} {
				for range 3 {
					all.Go(func() { connect(path + query) })
					all.Go(func() { connect("/full" + path + query) })
					all.Go(func() { connect("/timeout" + path + query) })
				}
			}
		}
		all.Go(func() { connect("/outer", "Origin", "https://evil.example") })
		all.Go(func() { connect("/outer?token=a&token=b", "Accept", "text/event-stream") })
		all.Go(func() { sessions.Disconnect("gone", 0, "") })
		all.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = drain.Shutdown(ctx)
		connect("/outer")
		state.over.Store(true)
		assert.Eventually(t, func() bool { return state.depth.Load() == 0 }, 20*time.Second, time.Millisecond)
		assert.NoError(t, hub.Close())
		assert.Eventually(t, func() bool { return hub.Stats().Subscriptions == 0 }, 20*time.Second, time.Millisecond)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("a Logger waits for a lock")
	}
	state.mu.Lock()
	defer state.mu.Unlock()
	for _, message := range []string{
		"sse: refused a stream", "ws: refused a stream", "middleware: refused a stream",
		"sse: dropped a message that cannot be encoded", "ws: dropped a message that cannot be encoded", "sse: dropped a message",
		"sse: stream ended", "ws: stream ended",
	} {
		require.Positive(t, state.seen[message], message)
	}
	warned := 0
	for message, n := range state.seen {
		if strings.Contains(message, "deadline") {
			warned += n
		}
	}
	require.Positive(t, warned)
}

// withDeadline gives requests a context with a deadline, as a timeout middleware does.
func withDeadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// connectOnce opens a stream, waits for the answer and leaves.
func connectOnce(t *testing.T, url, path string, header ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", url+path, nil)
	if !assert.NoError(t, err) {
		return
	}
	if strings.Contains(path, "/ws") {
		for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
			r.Header.Set(name, value)
		}
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(r)
	if assert.NoError(t, err, path) {
		response.Body.Close()
	}
}

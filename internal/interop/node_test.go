package interop_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// nodeServer serves streams, and requests with which a client publishes messages and cuts all
// streams.
//
// A page's streams are those that more adds.
func nodeServer(t *testing.T, more ...func(hub *broadcast.Hub, handle func(path string, stream http.Handler))) *httptest.Server {
	hub := new(broadcast.Hub)
	silent := slog.New(slog.DiscardHandler)
	grant := func(r *http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: r.URL.Query()["topic"]}, nil
	}
	var mu sync.Mutex
	streams := make(map[net.Conn]bool)
	type connKey struct{}
	stream := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			c := r.Context().Value(connKey{}).(net.Conn)
			streams[c] = true
			mu.Unlock()
			next.ServeHTTP(w, r)
			mu.Lock()
			defer mu.Unlock()
			delete(streams, c) // it may carry another request next, such as the one that cuts
		})
	}
	mux := http.NewServeMux()
	mux.Handle("GET /events", stream(&sse.Handler{Broadcaster: hub, Grant: grant, Logger: silent, Options: sse.Options{Retry: 100 * time.Millisecond}}))
	mux.Handle("GET /ws", stream(&ws.Handler{Broadcaster: hub, Grant: grant, Logger: silent,
		Options: ws.Options{PingInterval: 200 * time.Millisecond, Compression: true, CheckOrigin: func(*http.Request) error { return nil }}}))
	for _, add := range more {
		add(hub, func(path string, h http.Handler) { mux.Handle(path, stream(h)) })
	}
	mux.HandleFunc("POST /publish", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err == nil {
			query := r.URL.Query()
			_, err = hub.Publish(r.Context(), broadcast.Message{Topic: query.Get("topic"), Key: query.Get("key"), Type: query.Get("type"), Data: data})
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("POST /cut", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		for c := range streams {
			_ = c.Close()
			delete(streams, c)
		}
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(sse.ConnContext(ctx, c), connKey{}, c)
	}
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// Clients from npm get each message once and resume after a cut. `npm install` in the folder
// node installs them.
func TestNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	if _, err := os.Stat("node/node_modules"); err != nil {
		t.Skip("the clients are not installed: run npm install in internal/interop/node")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, node, "node/clients.mjs", nodeServer(t).URL).CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
	require.Equal(t, 6, strings.Count(string(out), "ok - "), "clients that passed")
}

// curl reads an event stream.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	server := nodeServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, curl, "--silent", "--no-buffer", server.URL+"/events?topic=a")
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	require.Regexp(t, `^retry: (7[5-9]|[89][0-9]|1[01][0-9]|12[0-5])$`, lines.Text())
	response, err := http.Post(server.URL+"/publish?topic=a", "text/plain", strings.NewReader("from the shell"))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	for lines.Scan() && lines.Text() != "data: from the shell" {
	}
	require.Equal(t, "data: from the shell", lines.Text())
	cancel()
	_ = command.Wait() // killed
}

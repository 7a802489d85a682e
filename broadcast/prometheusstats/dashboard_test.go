package prometheusstats_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/broadcast/prometheusstats"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// TestDashboard has a real Prometheus collect from a service, and asks it what the
// dashboard asks: there is an answer to everything.
func TestDashboard(t *testing.T) {
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed: the dashboard's queries are not tried here")
	}
	service := serve(t)
	p := start(t, path, service.Listener.Addr().String())

	file, err := os.ReadFile("dashboard.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	require.NoError(t, json.Unmarshal(file, &dashboard))
	require.NotEmpty(t, dashboard.Panels)
	for _, panel := range dashboard.Panels {
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			query := strings.NewReplacer("$__rate_interval", "30s", "$job", ".*").Replace(target.Expr)
			var answer []sample
			require.Eventually(t, func() bool {
				answer = p.ask(t, query)
				return len(answer) > 0
			}, 20*time.Second, 200*time.Millisecond, "%s: no answer to %s", panel.Title, query)
			for label := range labels(target.LegendFormat) {
				require.Contains(t, answer[0].Metric, label, "%s: the legend has a label that the answer has not", panel.Title)
			}
			t.Logf("%s: %v %s", panel.Title, answer[0].Metric, answer[0].Value[1])
		}
	}
}

// labels yields the labels of a legend such as "{{handler}}: lag".
func labels(legend string) map[string]bool {
	all := make(map[string]bool)
	for _, part := range strings.Split(legend, "{{")[1:] {
		label, _, _ := strings.Cut(part, "}}")
		all[label] = true
	}
	return all
}

// serve is a service with streams of both kinds, of which each figure has moved.
func serve(t *testing.T) *httptest.Server {
	ctx, cancel := context.WithCancel(context.Background())
	var journal broadcasttest.Journal
	hub := &broadcast.Hub{Keep: 4, Journal: journal.Node()}
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		_ = hub.Run(ctx)
	}()
	grant := func(r *http.Request) (*fanfare.Grant, error) {
		if r.URL.Query().Get("topic") == "" {
			return nil, &fanfare.Refusal{Status: 403, Err: errors.New("no topic")}
		}
		return &fanfare.Grant{Topics: []string{"a"}}, nil
	}
	silent := slog.New(slog.DiscardHandler)
	events := &sse.Handler{Broadcaster: hub, Grant: grant, Logger: silent}
	sockets := &ws.Handler{Broadcaster: hub, Grant: grant, Detach: true, Logger: silent}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&prometheusstats.Collector{
		Hubs:     map[string]prometheusstats.Hub{"main": hub},
		Handlers: map[string]prometheusstats.Handler{"events": events, "ws": sockets},
	})
	mux := http.NewServeMux()
	mux.Handle("GET /events", events)
	mux.Handle("GET /ws", sockets)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := httptest.NewServer(mux)

	busy := make(chan struct{})
	go func() {
		defer close(busy)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ; ctx.Err() == nil; <-tick.C {
			visit(ctx, hub, server.URL)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-busy
		<-followed
		http.DefaultClient.CloseIdleConnections()
		_ = hub.Close()
		server.Close()
	})
	return server
}

// visit comes, hears something, goes, comes back for what is there no more, and is refused.
func visit(ctx context.Context, hub *broadcast.Hub, url string) {
	for _, path := range []string{"/events?topic=a", "/events?topic=a&lastEventId=1-1", "/events"} {
		r, err := http.NewRequestWithContext(ctx, "GET", url+path, nil)
		if err != nil {
			return
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			return
		}
		_, _ = hub.Publish(ctx, broadcast.Message{Topic: "a", Data: []byte("hello")})
		_, _ = response.Body.Read(make([]byte, 100))
		_ = response.Body.Close()
	}
	if c, err := ws.Dial(ctx, url+"/ws?topic=a", nil); err == nil {
		_ = c.CloseNow()
	}
}

// server is a Prometheus that runs.
type server struct{ url string }

func start(t *testing.T, path, target string) *server {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	folder := t.TempDir()
	config := filepath.Join(folder, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "scrape_configs:\n- job_name: service\n  scrape_interval: 1s\n  static_configs:\n  - targets: [%q]\n", target), 0o600))
	var log bytes.Buffer
	cmd := exec.Command(path, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(folder, "data"), "--web.listen-address="+address)
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus says: %s", log.String())
		}
	})
	s := &server{"http://" + address}
	require.Eventually(t, func() bool {
		response, err := http.Get(s.url + "/-/ready")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, 30*time.Second, 100*time.Millisecond)
	return s
}

type sample struct {
	Metric map[string]string
	Value  [2]any
}

// ask asks for what a query is now.
func (s *server) ask(t *testing.T, query string) []sample {
	t.Helper()
	response, err := http.Get(s.url + "/api/v1/query?query=" + url.QueryEscape(query))
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	var answer struct {
		Status string
		Data   struct{ Result []sample }
	}
	require.NoError(t, json.Unmarshal(body, &answer), "%s", body)
	require.Equal(t, "success", answer.Status, "%s: %s", query, body)
	return answer.Data.Result
}

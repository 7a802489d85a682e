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

// Each query of the dashboard has a result in a Prometheus that scrapes a service with the
// Collector, and the labels that its legend names.
func TestDashboard(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed")
	}
	service := serve(t)
	p := start(t, path, service.Listener.Addr().String(), "groups: []")

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
			var result []sample
			require.Eventually(t, func() bool {
				result = p.query(t, query)
				return len(result) > 0
			}, 20*time.Second, 200*time.Millisecond, "%s: no result of %s", panel.Title, query)
			for label := range labels(target.LegendFormat) {
				require.Contains(t, result[0].Metric, label, "%s: the result has no label that the legend names", panel.Title)
			}
			t.Logf("%s: %v %s", panel.Title, result[0].Metric, result[0].Value[1])
		}
	}
}

// labels returns the labels of a legend such as "{{handler}}: lag".
func labels(legend string) map[string]bool {
	all := make(map[string]bool)
	for _, part := range strings.Split(legend, "{{")[1:] {
		label, _, _ := strings.Cut(part, "}}")
		all[label] = true
	}
	return all
}

// serve starts a service with streams on both transports, whose every metric changes.
func serve(t *testing.T) *httptest.Server {
	ctx, cancel := context.WithCancel(context.Background())
	var journal broadcasttest.Journal
	hub := &broadcast.Hub{Keep: 4, Journal: journal.Node()}
	hubEnded := make(chan struct{})
	go func() {
		defer close(hubEnded)
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

	visitsEnded := make(chan struct{})
	go func() {
		defer close(visitsEnded)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ; ctx.Err() == nil; <-tick.C {
			visit(ctx, hub, server.URL)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-visitsEnded
		<-hubEnded
		http.DefaultClient.CloseIdleConnections()
		_ = hub.Close()
		server.Close()
	})
	return server
}

// visit opens a stream and closes it, resumes at a position that is unknown, is refused once, and
// opens a WebSocket.
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

// server is a running Prometheus.
type server struct{ url string }

func start(t *testing.T, path, target, rules string) *server {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	folder := t.TempDir()
	config := filepath.Join(folder, "prometheus.yml")
	ruleFile := filepath.Join(folder, "rules.yml")
	require.NoError(t, os.WriteFile(ruleFile, []byte(rules), 0o600))
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "global:\n  evaluation_interval: 1s\nrule_files: [%q]\nscrape_configs:\n- job_name: service\n  scrape_interval: 1s\n  static_configs:\n  - targets: [%q]\n", ruleFile, target), 0o600))
	var log bytes.Buffer
	cmd := exec.Command(path, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(folder, "data"), "--web.listen-address="+address)
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus: %s", log.String())
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

// query returns the current result of a query.
func (s *server) query(t *testing.T, query string) []sample {
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

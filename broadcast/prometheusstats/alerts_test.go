package prometheusstats_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/broadcast/prometheusstats"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

// documentedAlerts returns the rules of docs/observability.md, which wait for a moment only.
func documentedAlerts(t *testing.T) string {
	page, err := os.ReadFile("../../docs/observability.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```yaml\n(groups:.*?)```").FindSubmatch(page)
	require.NotNil(t, block, "the page has no alerts")
	return regexp.MustCompile(`(?m)for: \w+$`).ReplaceAllString(string(block[1]), "for: 1s")
}

// The documented alerts fire while the engine is dead, and while a tail yields nothing of what
// it has, and not before.
func TestAlerts(t *testing.T) {
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed")
	}
	rules := documentedAlerts(t)
	for _, test := range []struct {
		name  string
		fault func(node, engine *broadcasttest.Journal)
		want  string
	}{
		{"a dead engine", func(node, _ *broadcasttest.Journal) { node.Fail(errors.New("dead")) }, "JournalIsNotFollowed"},
		{"a stuck tail", func(node, engine *broadcasttest.Journal) {
			node.Hold()
			_, _ = engine.Append(context.Background(), broadcast.Message{Topic: "a"})
		}, "ServerIsBehindItsJournal"},
	} {
		t.Run(test.name, func(t *testing.T) {
			longtest.Only(t)
			t.Parallel()
			var engine broadcasttest.Journal
			node := engine.Node()
			hub := &broadcast.Hub{Journal: node, Logger: slog.New(slog.DiscardHandler)}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = hub.Run(ctx)
			}()
			t.Cleanup(func() {
				cancel()
				<-ended
			})
			require.NoError(t, hub.Ready(ctx))
			registry := prometheus.NewRegistry()
			registry.MustRegister(&prometheusstats.Collector{Hubs: map[string]prometheusstats.Hub{"main": hub}})
			service := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
			t.Cleanup(service.Close)
			p := start(t, path, service.Listener.Addr().String(), rules)

			firing := `ALERTS{alertstate="firing",alertname="` + test.want + `"}`
			require.Eventually(t, func() bool { return len(p.query(t, "fanfare_hub_following == 1")) > 0 }, 30*time.Second, 100*time.Millisecond)
			require.Empty(t, p.query(t, `ALERTS{alertstate="firing"}`))
			test.fault(node, &engine)
			require.Eventually(t, func() bool { return len(p.query(t, firing)) > 0 }, time.Minute, 200*time.Millisecond, "the alert does not fire")
		})
	}
}

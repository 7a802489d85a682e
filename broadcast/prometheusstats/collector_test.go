package prometheusstats_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/prometheusstats"
	"github.com/fanfare-go/fanfare/sse"
)

// A registry with a Hub and a handler.
func ExampleCollector() {
	var hub broadcast.Hub
	events := &sse.Handler{Broadcaster: &hub, Topics: []string{"news"}}

	registry := prometheus.NewRegistry()
	registry.MustRegister(&prometheusstats.Collector{
		Hubs:     map[string]prometheusstats.Hub{"main": &hub},
		Handlers: map[string]prometheusstats.Handler{"events": events},
	})
	metrics := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer metrics.Close()

	hub.Publish(context.Background(), broadcast.Message{Topic: "news", Data: []byte("It rains")})
	response, err := http.Get(metrics.URL)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "fanfare_hub_published") || strings.HasPrefix(line, "fanfare_streams_open{") {
			fmt.Print(line)
		}
	}
	// Output:
	// fanfare_hub_published_total{hub="main"} 1
	// fanfare_streams_open{handler="events"} 0
}

type hubStats broadcast.HubStats

func (s hubStats) Stats() broadcast.HubStats { return broadcast.HubStats(s) }

type streamStats fanfare.StreamStats

func (s streamStats) Stats() fanfare.StreamStats { return fanfare.StreamStats(s) }

// Each field of the statistics is one metric, or several that differ in a label.
func TestCollector(t *testing.T) {
	c := &prometheusstats.Collector{
		Hubs: map[string]prometheusstats.Hub{"main": hubStats{
			Topics: 1, Messages: 2, Bytes: 3, Subscriptions: 4, Gaps: 5, Position: broadcast.MakeID(7, 6), Following: true, Behind: 8, Lag: 2500 * time.Millisecond,
		}},
		Handlers: map[string]prometheusstats.Handler{"events": streamStats{
			Open: 1, Behind: 2, Lag: 1500 * time.Millisecond, Opened: 10, Resumed: 4, Messages: 20, Replayed: 5, Bytes: 6, Gaps: 7,
			Ended: map[string]uint64{"restart": 8}, Refused: map[int]uint64{403: 9},
		}},
	}
	problems, err := testutil.CollectAndLint(c)
	require.NoError(t, err)
	require.Empty(t, problems)
	var got []string
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(c))
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			got = append(got, fmt.Sprint(family.GetName(), " ", strings.Join(labels, " "), " ", m.GetGauge().GetValue()+m.GetCounter().GetValue()))
		}
	}
	require.Equal(t, []string{
		"fanfare_hub_behind hub=main 8",
		"fanfare_hub_following hub=main 1",
		"fanfare_hub_gaps_total hub=main 5",
		"fanfare_hub_kept_bytes hub=main 3",
		"fanfare_hub_kept_messages hub=main 2",
		"fanfare_hub_lag_seconds hub=main 2.5",
		"fanfare_hub_published_total hub=main 6",
		"fanfare_hub_subscriptions hub=main 4",
		"fanfare_hub_topics hub=main 1",
		"fanfare_streams_behind handler=events 2",
		"fanfare_streams_bytes_total handler=events 6",
		"fanfare_streams_ended_total handler=events reason=restart 8",
		"fanfare_streams_gaps_total handler=events 7",
		"fanfare_streams_lag_seconds handler=events 1.5",
		"fanfare_streams_messages_total handler=events replayed=false 15",
		"fanfare_streams_messages_total handler=events replayed=true 5",
		"fanfare_streams_open handler=events 1",
		"fanfare_streams_opened_total handler=events resumed=false 6",
		"fanfare_streams_opened_total handler=events resumed=true 4",
		"fanfare_streams_refused_total handler=events status=403 9",
	}, got)
}

// A Hub that does not know its position yet has no fanfare_hub_published_total: a 0 would be a
// jump to the whole log at the next scrape.
func TestCollectorWithoutAPosition(t *testing.T) {
	c := &prometheusstats.Collector{Hubs: map[string]prometheusstats.Hub{"main": hubStats{}}}
	require.Zero(t, testutil.CollectAndCount(c, "fanfare_hub_published_total"))
	require.Equal(t, 1, testutil.CollectAndCount(c, "fanfare_hub_topics"))
}

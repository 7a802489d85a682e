// Package prometheusstats exports the statistics of Hubs and handlers to Prometheus. It is a
// module of its own, so that the kit itself does not depend on Prometheus.
//
//	prometheus.MustRegister(&prometheusstats.Collector{
//		Hubs:     map[string]prometheusstats.Hub{"main": &hub},
//		Handlers: map[string]prometheusstats.Handler{"events": events, "ws": sockets},
//	})
//	http.Handle("GET /metrics", promhttp.Handler())
//
// # Metrics
//
// For each Hub, with the label hub:
//
//	fanfare_hub_topics             topics that the Hub knows
//	fanfare_hub_kept_messages      messages kept for resuming
//	fanfare_hub_kept_bytes         their size in bytes
//	fanfare_hub_subscriptions      open subscriptions
//	fanfare_hub_following          1 if the Hub follows its journal, whose engine has answered within the last seconds; always 0 without a journal
//	fanfare_hub_behind             entries of the journal that the Hub has not taken yet, as far as it knows
//	fanfare_hub_lag_seconds        for how long it has known of the oldest of them
//	fanfare_hub_published_total    messages in the log, including those of other nodes
//	fanfare_hub_gaps_total         gaps that subscriptions got
//
// For each handler, with the label handler:
//
//	fanfare_streams_open                             open streams
//	fanfare_streams_behind                           open streams that have something to write
//	fanfare_streams_lag_seconds                      the longest time that one of them has made no progress
//	fanfare_streams_opened_total{resumed="true"}     streams that began, by whether they resumed from a position
//	fanfare_streams_messages_total{replayed="true"}  messages written, by whether the stream had resumed and not caught up yet
//	fanfare_streams_bytes_total                      bytes written
//	fanfare_streams_gaps_total                       gaps sent to clients
//	fanfare_streams_ended_total{reason="restart"}    streams that ended, by reason
//	fanfare_streams_refused_total{status="403"}      requests that were refused, by the status of the refusal
//
// The labels have few values: none of them is a topic, a client or text that a client sent.
// dashboard.json is a Grafana dashboard that shows all of these metrics.
package prometheusstats

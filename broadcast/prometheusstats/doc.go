// Package prometheusstats shows Hubs and handlers to Prometheus. It is a module of its own,
// so that who measures otherwise does not depend on it.
//
//	prometheus.MustRegister(&prometheusstats.Collector{
//		Hubs:     map[string]prometheusstats.Hub{"main": &hub},
//		Handlers: map[string]prometheusstats.Handler{"events": events, "ws": sockets},
//	})
//	http.Handle("GET /metrics", promhttp.Handler())
//
// # Metrics
//
// Of each Hub, with the label hub:
//
//	fanfare_hub_topics             topics remembered
//	fanfare_hub_kept_messages      messages kept for resuming
//	fanfare_hub_kept_bytes         their size
//	fanfare_hub_subscriptions      open subscriptions
//	fanfare_hub_following          1 if Hub.Run follows the journal; 0 without one
//	fanfare_hub_published_total    messages in the log as this Hub has it, other nodes' too
//	fanfare_hub_gaps_total         gaps told
//
// Of each handler, with the label handler:
//
//	fanfare_streams_open                             open streams
//	fanfare_streams_behind                           those that have something to write
//	fanfare_streams_lag_seconds                      for how long the slowest of them has been at it
//	fanfare_streams_opened_total{resumed="true"}     streams that began, by whether they came with a position
//	fanfare_streams_messages_total{replayed="true"}  messages written, by whether they were caught up with
//	fanfare_streams_bytes_total                      bytes written
//	fanfare_streams_gaps_total                       gaps told
//	fanfare_streams_ended_total{reason="restart"}    streams that ended
//	fanfare_streams_refused_total{status="403"}      requests refused
//
// The labels have few values: no topic, no client and no words of a client's are among
// them. dashboard.json is a dashboard for Grafana that shows all of these.
package prometheusstats

package prometheusstats

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
)

// Hub is what a Collector asks of a Hub: a [broadcast.Hub] is one.
type Hub interface{ Stats() broadcast.HubStats }

// Handler is what a Collector asks of a handler: sse.Handler and ws.Handler are ones.
type Handler interface{ Stats() fanfare.StreamStats }

// Collector is a prometheus.Collector. It asks for a snapshot whenever it is collected,
// and costs nothing between. Its fields are not changed once it is registered.
type Collector struct {
	// Hubs, by the value of the label "hub".
	Hubs map[string]Hub

	// Handlers, by the value of the label "handler".
	Handlers map[string]Handler
}

var (
	topics        = hub("topics", "Topics remembered.")
	keptMessages  = hub("kept_messages", "Messages kept for resuming.")
	keptBytes     = hub("kept_bytes", "Size of the messages kept for resuming.")
	subscriptions = hub("subscriptions", "Open subscriptions.")
	following     = hub("following", "1 if the journal is followed.")
	published     = hub("published_total", "Messages in the log, other nodes' too.")
	hubGaps       = hub("gaps_total", "Gaps told.")

	open        = streams("open", "Open streams.")
	behind      = streams("behind", "Open streams that have something to write.")
	lag         = streams("lag_seconds", "For how long the slowest stream has been writing.")
	opened      = streams("opened_total", "Streams that began, by whether they came with a position.", "resumed")
	messages    = streams("messages_total", "Messages written, by whether they were caught up with.", "replayed")
	bytes       = streams("bytes_total", "Bytes written.")
	streamsGaps = streams("gaps_total", "Gaps told.")
	ended       = streams("ended_total", "Streams that ended.", "reason")
	refused     = streams("refused_total", "Requests refused, by the status that the refusal stands for.", "status")
)

func hub(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("fanfare_hub_"+name, help, []string{"hub"}, nil)
}

func streams(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fanfare_streams_"+name, help, append([]string{"handler"}, labels...), nil)
}

// Describe is part of prometheus.Collector.
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		topics, keptMessages, keptBytes, subscriptions, following, published, hubGaps,
		open, behind, lag, opened, messages, bytes, streamsGaps, ended, refused,
	} {
		descs <- d
	}
}

// Collect is part of prometheus.Collector.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for name, h := range c.Hubs {
		s := h.Stats()
		gauge(topics, float64(s.Topics), name)
		gauge(keptMessages, float64(s.Messages), name)
		gauge(keptBytes, float64(s.Bytes), name)
		gauge(subscriptions, float64(s.Subscriptions), name)
		gauge(following, one(s.Following), name)
		if !s.Position.IsZero() { // else it would jump from nothing to all of the log
			counter(published, s.Position.Seq(), name)
		}
		counter(hubGaps, s.Gaps, name)
	}
	for name, h := range c.Handlers {
		s := h.Stats()
		gauge(open, float64(s.Open), name)
		gauge(behind, float64(s.Behind), name)
		gauge(lag, s.Lag.Seconds(), name)
		counter(opened, s.Resumed, name, "true")
		counter(opened, s.Opened-s.Resumed, name, "false")
		counter(messages, s.Replayed, name, "true")
		counter(messages, s.Messages-s.Replayed, name, "false")
		counter(bytes, s.Bytes, name)
		counter(streamsGaps, s.Gaps, name)
		for reason, n := range s.Ended {
			counter(ended, n, name, reason)
		}
		for status, n := range s.Refused {
			counter(refused, n, name, strconv.Itoa(status))
		}
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

package prometheusstats

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
)

// Hub is implemented by [broadcast.Hub].
type Hub interface{ Stats() broadcast.HubStats }

// Handler is implemented by sse.Handler and ws.Handler.
type Handler interface{ Stats() fanfare.StreamStats }

// Collector is a [prometheus.Collector]. It calls Stats of each Hub and handler whenever it
// is collected, and does nothing in between. Do not change its fields once it is registered.
type Collector struct {
	// Hubs are the Hubs to collect from, by the value of the label "hub".
	Hubs map[string]Hub

	// Handlers are the handlers to collect from, by the value of the label "handler".
	Handlers map[string]Handler
}

var (
	topics        = hub("topics", "Topics that the Hub knows.")
	keptMessages  = hub("kept_messages", "Messages kept for resuming.")
	keptBytes     = hub("kept_bytes", "Size of the messages kept for resuming, in bytes.")
	subscriptions = hub("subscriptions", "Open subscriptions.")
	following     = hub("following", "1 if the Hub follows its journal, whose engine has answered within the last seconds, else 0; always 0 without a journal.")
	hubBehind     = hub("behind", "Entries of the journal that the Hub has not taken yet, as far as it knows.")
	hubLag        = hub("lag_seconds", "For how long the Hub has known of the oldest entry of the journal that it has not taken yet, in seconds.")
	published     = hub("published_total", "Messages in the log, including those of other nodes.")
	hubGaps       = hub("gaps_total", "Gaps that subscriptions got.")

	open        = streams("open", "Open streams.")
	behind      = streams("behind", "Open streams that have something to write, and so lag behind.")
	lag         = streams("lag_seconds", "Longest time that an open stream with something to write has made no progress, in seconds.")
	opened      = streams("opened_total", "Streams that began, by whether they resumed from a position.", "resumed")
	messages    = streams("messages_total", "Messages written to clients, by whether the stream had resumed and not caught up yet.", "replayed")
	bytes       = streams("bytes_total", "Bytes written to clients.")
	streamsGaps = streams("gaps_total", "Gaps sent to clients.")
	ended       = streams("ended_total", "Streams that ended, by reason.", "reason")
	refused     = streams("refused_total", "Requests that were refused, by the status of the refusal.", "status")
)

func hub(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("fanfare_hub_"+name, help, []string{"hub"}, nil)
}

func streams(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fanfare_streams_"+name, help, append([]string{"handler"}, labels...), nil)
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		topics, keptMessages, keptBytes, subscriptions, following, hubBehind, hubLag, published, hubGaps,
		open, behind, lag, opened, messages, bytes, streamsGaps, ended, refused,
	} {
		descs <- d
	}
}

// Collect implements [prometheus.Collector].
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
		gauge(following, fromBool(s.Following), name)
		gauge(hubBehind, float64(s.Behind), name)
		gauge(hubLag, s.Lag.Seconds(), name)
		if !s.Position.IsZero() { // unknown until the journal has answered: a 0 would look like a reset
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

func fromBool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

package natsjournal_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

// A field that is impossible is named by the error of every method. The stream stays as it
// is.
func TestSettings(t *testing.T) {
	tests := []struct {
		name   string
		change func(*natsjournal.Journal)
		want   string
	}{
		{"subject", func(j *natsjournal.Journal) { j.Subject = "other" }, `this node needs only "other.<number>"`},
		{"impossible age", func(j *natsjournal.Journal) { j.MaxAge = time.Second }, "Journal.MaxAge is 1s: it must be at least a minute"},
		{"impossible replicas", func(j *natsjournal.Journal) { j.Replicas = -1 }, "Journal.Replicas is -1"},
		{"domain and prefix", func(j *natsjournal.Journal) { j.Domain, j.APIPrefix = "d", "p" }, "Journal.Domain and Journal.APIPrefix are both set"},
		{"no connection", func(j *natsjournal.Journal) { j.Conn = nil }, "Journal.Conn is nil"},
	}
	e := startEngine(t)
	own := e.journal()
	add(t, own, "first")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			other := journal(own.Conn)
			test.change(other)
			_, err := other.Append(within(t), message("x"))
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
			require.ErrorIs(t, err, broadcast.ErrNotPublished)
			require.ErrorContains(t, err, test.want)
			_, _, err = other.Bounds(within(t))
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
			_, err = follow(t, other, broadcast.ID{}).next()
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
		})
	}
	add(t, own, "last")
}

// A node uses a stream whose limits are not those of its fields as it is, and logs each
// difference once.
func TestSettingsThatDiffer(t *testing.T) {
	tests := []struct {
		name   string
		change func(*natsjournal.Journal)
		want   []string
	}{
		{"age", func(j *natsjournal.Journal) { j.MaxAge = time.Hour }, []string{"setting=max_age", "24h0m0s", "1h0m0s", "Journal.MaxAge"}},
		{"messages", func(j *natsjournal.Journal) { j.MaxMessages = -1 }, []string{"setting=max_msgs", "1000000", "-1", "Journal.MaxMessages"}},
		{"bytes", func(j *natsjournal.Journal) { j.MaxBytes = 1 << 21 }, []string{"setting=max_bytes", "67108864", "2097152", "Journal.MaxBytes"}},
		{"replicas", func(j *natsjournal.Journal) { j.Replicas = 3 }, []string{"setting=num_replicas", "Journal.Replicas"}},
		{"storage", func(j *natsjournal.Journal) { j.Memory = true }, []string{"setting=storage", "File", "Memory", "Journal.Memory"}},
	}
	e := startEngine(t)
	own := e.journal()
	f := follow(t, own, broadcast.ID{})
	f.yields(add(t, own, "first"), "first")
	before := stream(t, admin(t, own.Conn)).CachedInfo().Config
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			other := journal(e.connect())
			test.change(other)
			var log logged
			other.Logger = slog.New(slog.NewTextHandler(&log, nil))
			ids := add(t, other, test.name)
			f.yields(ids, test.name)
			follow(t, other, broadcast.ID{}).yields(nil, "first")
			_, newest, err := other.Bounds(within(t))
			require.NoError(t, err)
			require.Equal(t, ids[0], newest)
			require.Equal(t, 1, strings.Count(log.String(), "level="), "once: %s", &log)
			for _, text := range append(test.want, "level=WARN") {
				require.Contains(t, log.String(), text)
			}
		})
	}
	require.Equal(t, before, stream(t, admin(t, own.Conn)).CachedInfo().Config)
}

// logged is a log.
type logged struct {
	mu     sync.Mutex
	buffer bytes.Buffer // guarded by mu
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

// edit changes the settings of the stream as an operator does.
func edit(t *testing.T, js jetstream.JetStream, change func(*jetstream.StreamConfig)) {
	t.Helper()
	config := stream(t, js).CachedInfo().Config
	change(&config)
	_, err := js.UpdateStream(t.Context(), config)
	require.NoError(t, err)
}

// A stream whose limits are changed while nodes follow it is followed on: messages arrive, in
// the same epoch.
func TestSettingsChangedMeanwhile(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*jetstream.StreamConfig)
	}{
		{"age", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }},
		{"messages", func(c *jetstream.StreamConfig) { c.MaxMsgs = 100 }},
		{"messages per subject", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 50 }},
		{"bytes", func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 22 }},
		{"size of a message", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 10_000 }},
		{"duplicate window", func(c *jetstream.StreamConfig) { c.Duplicates = time.Second }},
		{"description and metadata", func(c *jetstream.StreamConfig) {
			c.Description, c.Metadata = "ours", map[string]string{"owner": "ops"}
		}},
		{"compression", func(c *jetstream.StreamConfig) { c.Compression = jetstream.S2Compression }},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := startEngine(t)
			j := e.journal()
			f := follow(t, j, broadcast.ID{})
			first := add(t, j, "first")
			f.yields(first, "first")
			edit(t, admin(t, j.Conn), test.change)
			require.NoError(t, j.Conn.ForceReconnect()) // the tail looks at the stream
			ids := add(t, j, "second")
			require.Equal(t, first[0].Epoch(), ids[0].Epoch())
			f.yields(ids, "second")
		})
	}
}

// A tail keeps to the stream's limit of a consumer's inactivity.
func TestSettingsThatLimitConsumers(t *testing.T) {
	e := startEngine(t)
	j := e.journal()
	ids := add(t, j, "first")
	edit(t, admin(t, j.Conn), func(c *jetstream.StreamConfig) { c.ConsumerLimits.InactiveThreshold = 10 * time.Second })
	follow(t, j, broadcast.ID{}).yields(ids, "first")
}

// A stream whose settings lose, refuse or change entries is unusable for Tail, for Bounds and
// for Append, as soon as one of them has found that, and usable again once it is repaired.
func TestSettingsThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*jetstream.StreamConfig)
		want   string
	}{
		{"discard", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardNew }, "has discard"},
		{"no acknowledgements", func(c *jetstream.StreamConfig) { c.NoAck = true }, "has no_ack true"},
		{"more subjects", func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "more") },
			"set Journal.Subject to the same value on all nodes"},
		{"transform", func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "fanfare.*", Destination: "other.{{wildcard(1)}}"}
		}, "has subject_transform true"},
		{"sources", func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "other"}} }, "has sources true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := startEngine(t)
			j := e.journal()
			f := follow(t, j, broadcast.ID{})
			first := add(t, j, "first")
			f.yields(first, "first")
			js := admin(t, j.Conn)
			_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "other", Subjects: []string{"elsewhere"}})
			require.NoError(t, err)
			good := stream(t, js).CachedInfo().Config
			edit(t, js, test.change)
			require.NoError(t, j.Conn.ForceReconnect())
			_, err = f.next()
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
			require.ErrorContains(t, err, test.want)
			_, err = j.Append(within(t), message("x"))
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
			require.ErrorIs(t, err, broadcast.ErrNotPublished)
			_, _, err = j.Bounds(within(t))
			require.ErrorIs(t, err, natsjournal.ErrUnusable)

			_, err = js.UpdateStream(t.Context(), good)
			require.NoError(t, err)
			ids := add(t, j, "second")
			require.Equal(t, first[0].Epoch(), ids[0].Epoch())
			follow(t, j, first[0]).yields(ids, "second")
		})
	}
}

// The first message that a sealed stream refuses says that the stream is unusable, also for a
// node that does not follow it.
func TestSettingsThatAppendFinds(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	j := e.journal()
	add(t, j, "first")
	edit(t, admin(t, j.Conn), func(c *jetstream.StreamConfig) { c.Sealed = true })
	require.Eventually(t, func() bool {
		_, err := j.Append(within(t), message("x"))
		return strings.Contains(err.Error(), "has sealed true")
	}, soon, 50*moment)
	_, err := j.Append(within(t), message("x"))
	require.ErrorIs(t, err, natsjournal.ErrUnusable)
}

// An engine without room for the stream is named with the field that reserves it.
func TestSettingsWithoutRoom(t *testing.T) {
	for name, test := range map[string]struct {
		options func(*server.Options)
		change  func(*natsjournal.Journal)
		want    string
	}{
		"disk": {
			func(o *server.Options) { o.JetStreamMaxStore = 100 << 20 },
			func(j *natsjournal.Journal) { j.MaxBytes = 0 },
			"reserves 1073741824 bytes (Journal.MaxBytes; 1 GiB if zero)",
		},
		"memory": {
			func(o *server.Options) { o.JetStreamMaxMemory = 1 << 20 },
			func(j *natsjournal.Journal) { j.Memory = true },
			"raise the servers' max_memory_store",
		},
		"replicas": {
			func(*server.Options) {},
			func(j *natsjournal.Journal) { j.Replicas = 3 },
			"Journal.Replicas is 3, but the server is no part of a cluster",
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := startEngine(t, test.options).journal()
			test.change(j)
			_, _, err := j.Bounds(within(t))
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
			require.ErrorContains(t, err, test.want)
			_, err = j.Append(within(t), message("x"))
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
			require.ErrorIs(t, err, broadcast.ErrNotPublished)
			_, err = follow(t, j, broadcast.ID{}).next()
			require.ErrorIs(t, err, natsjournal.ErrUnusable)
		})
	}
}

// A Journal may use JetStream of another domain, or through another prefix.
func TestSettingsOfTheAPI(t *testing.T) {
	e := startEngine(t, func(o *server.Options) { o.JetStreamDomain = "hub" })
	for name, change := range map[string]func(*natsjournal.Journal){
		"domain":                 func(j *natsjournal.Journal) { j.Domain = "hub" },
		"prefix":                 func(j *natsjournal.Journal) { j.APIPrefix = "$JS.hub.API" },
		"prefix that ends a dot": func(j *natsjournal.Journal) { j.APIPrefix = "$JS.hub.API." },
	} {
		t.Run(name, func(t *testing.T) {
			j := fresh(t, e)
			change(j)
			f := follow(t, j, broadcast.ID{})
			f.yields(add(t, j, numbers(0, 10)...), numbers(0, 10)...)
			_, newest, err := j.Bounds(within(t))
			require.NoError(t, err)
			require.Equal(t, uint64(10), newest.Seq())
		})
	}
	j := fresh(t, e)
	j.Domain = "elsewhere"
	_, err := j.Append(within(t), message("x"))
	require.ErrorIs(t, err, broadcast.ErrNotPublished)
}

package natsjournal_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

// Where an entry stands is read as nats.go reads it, in both forms, and nothing else is.
func FuzzPlace(f *testing.F) {
	for _, subject := range []string{
		"$JS.ACK.fanfare.fanfare_X.1.22.11.1700000000123456789.7",
		"$JS.ACK.hub.hash.fanfare.fanfare_X.1.22.11.1700000000123456789.7",
		"$JS.ACK._.hash.fanfare.fanfare_X.1.22.11.1700000000123456789.7.random",
		"$JS.ACK.fanfare.fanfare_X.1.22.11", "$JS.ACK.", "", "_INBOX.1", "$JS.ACK.a.b.1.x.3.4.5", "$JS.ACK.a.b.1.2.3.4.5.6",
	} {
		f.Add(subject)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		stream, consumer, storedAt, ok := natsjournal.ParsePlace(subject)
		m := nats.Msg{Reply: subject, Sub: new(nats.Subscription)}
		meta, err := m.Metadata()
		if !ok || err != nil {
			return
		}
		require.Equal(t, meta.Sequence.Stream, stream)
		require.Equal(t, meta.Sequence.Consumer, consumer)
		require.Equal(t, meta.Timestamp.UTC(), storedAt)
	})
}

// Both forms are read.
func TestPlace(t *testing.T) {
	for _, subject := range []string{
		"$JS.ACK.fanfare.fanfare_X.1.22.11.1700000000123456789.7",
		"$JS.ACK._.hash.fanfare.fanfare_X.1.22.11.1700000000123456789.7.random",
	} {
		stream, consumer, storedAt, ok := natsjournal.ParsePlace(subject)
		require.True(t, ok)
		require.Equal(t, uint64(22), stream)
		require.Equal(t, uint64(11), consumer)
		require.Equal(t, int64(1700000000123456789), storedAt.UnixNano())
	}
	_, _, _, ok := natsjournal.ParsePlace("$JS.ACK.fanfare.fanfare_X.1.22.11")
	require.False(t, ok)
}

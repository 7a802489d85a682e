package natsjournal_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

func TestJournalConforms(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	broadcasttest.TestJournal(t, func(t *testing.T) broadcast.Journal { return fresh(t, e) })
}

func TestHubConforms(t *testing.T) {
	t.Parallel()
	const keep = 16
	e := startEngine(t)
	open := func(t *testing.T, j broadcast.Journal) broadcast.Broadcaster {
		hub := &broadcast.Hub{Keep: keep, Journal: j}
		run(t, hub)
		return hub
	}
	broadcasttest.TestBroadcaster(t, broadcasttest.Config{
		Open: func(t *testing.T) broadcast.Broadcaster { return open(t, fresh(t, e)) },
		Keep: keep,
		Restart: func(t *testing.T, old broadcast.Broadcaster) broadcast.Broadcaster {
			hub := old.(*broadcast.Hub)
			require.NoError(t, hub.Close())
			return open(t, hub.Journal)
		},
	})
}

// fresh returns a journal on a stream of its own.
func fresh(t *testing.T, e *engine) *natsjournal.Journal {
	j := journal(connect(t, e.ClientURL()))
	j.Stream = nats.NewInbox()[len("_INBOX."):]
	t.Cleanup(func() { admin(t, connect(t, e.ClientURL())).DeleteStream(t.Context(), j.Stream) })
	j.MaxBytes = 1 << 20
	return j
}

// run starts Hub.Run and waits until the Hub knows the position of its Journal.
func run(t *testing.T, hub *broadcast.Hub) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(t.Context()) }()
	t.Cleanup(func() {
		hub.Close()
		<-ended
	})
	require.Eventually(t, func() bool { return !hub.Stats().Position.IsZero() }, soon, time.Millisecond)
}

package filejournal_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/broadcast/filejournal"
)

func TestJournalConforms(t *testing.T) {
	broadcasttest.TestJournal(t, func(t *testing.T) broadcast.Journal { return open(t, t.TempDir()) })
}

func TestHubConforms(t *testing.T) {
	const keep = 16
	broadcasttest.TestBroadcaster(t, broadcasttest.Config{
		Open: func(t *testing.T) broadcast.Broadcaster {
			return run(t, &broadcast.Hub{Keep: keep, Journal: open(t, t.TempDir())})
		},
		Keep: keep,
		Restart: func(t *testing.T, old broadcast.Broadcaster) broadcast.Broadcaster {
			hub := old.(*broadcast.Hub)
			require.NoError(t, hub.Close())
			before := hub.Journal.(*filejournal.Journal)
			require.NoError(t, before.Close())
			return run(t, &broadcast.Hub{Keep: keep, Journal: open(t, before.Dir)})
		},
	})
}

// open returns a journal in a folder.
func open(t *testing.T, dir string) *filejournal.Journal {
	t.Helper()
	j := &filejournal.Journal{Dir: dir}
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	return j
}

// run starts Hub.Run and waits until the Hub knows the position of its Journal.
func run(t *testing.T, hub *broadcast.Hub) *broadcast.Hub {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(t.Context()) }()
	t.Cleanup(func() {
		hub.Close()
		<-ended
	})
	require.Eventually(t, func() bool { return !hub.Stats().Position.IsZero() }, 10*time.Second, time.Millisecond)
	return hub
}

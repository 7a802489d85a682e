package redisjournal_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

func TestJournalConforms(t *testing.T) {
	s := start(t)
	broadcasttest.TestJournal(t, func(t *testing.T) broadcast.Journal {
		return &redisjournal.Journal{Client: s.client("node"), Key: t.Name(), MaxEntries: 1000, Logger: quiet()}
	})
}

func TestJournalOnClusterConforms(t *testing.T) {
	longtest.Only(t)
	s := startCluster(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.address}})
	t.Cleanup(func() { client.Close() })
	broadcasttest.TestJournal(t, func(t *testing.T) broadcast.Journal {
		return &redisjournal.Journal{Client: client, Key: t.Name(), Logger: quiet()}
	})
}

const keep = 16

func TestHubConforms(t *testing.T) {
	t.Parallel()
	s := start(t)
	broadcasttest.TestBroadcaster(t, broadcasttest.Config{
		Open: func(t *testing.T) broadcast.Broadcaster {
			return run(t, &redisjournal.Journal{Client: s.client("node"), Key: t.Name(), Logger: quiet()})
		},
		Keep: keep,
		Restart: func(t *testing.T, old broadcast.Broadcaster) broadcast.Broadcaster {
			hub := old.(*broadcast.Hub)
			require.NoError(t, hub.Close())
			return run(t, hub.Journal)
		},
	})
}

// run returns a Hub that follows a journal and knows its position.
func run(t *testing.T, j broadcast.Journal) *broadcast.Hub {
	t.Helper()
	hub := &broadcast.Hub{Keep: keep, Journal: j, Logger: quiet()}
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(t.Context()) }()
	t.Cleanup(func() {
		hub.Close()
		<-ended
	})
	require.Eventually(t, func() bool { return hub.Stats().Following }, patience, time.Millisecond, "the Hub does not follow its journal")
	return hub
}

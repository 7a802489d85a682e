package redisjournal_test

import (
	"log/slog"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
	"github.com/fanfare-go/fanfare/internal/clustertest"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

// testClients runs clients of several servers while Redis crashes, twice in the long form. Unless
// the journals are durable, each crash is a gap.
func testClients(t *testing.T, s *server, durability durability) {
	crash := func(*testing.T) {
		s.crash()
		s.run()
	}
	crashes := []func(*testing.T){crash}
	if longtest.Enabled() {
		crashes = append(crashes, crash)
	}
	clustertest.Test(t, clustertest.Config{
		Open: func(*testing.T) (broadcast.Journal, func()) {
			client := redis.NewClient(&redis.Options{Addr: s.address})
			return &redisjournal.Journal{Client: client, Durable: durability == durable, Logger: slog.New(slog.DiscardHandler)}, func() { _ = client.Close() }
		},
		Faults: crashes,
		Loses:  durability != durable,
	})
}

// durability is the value of Journal.Durable.
type durability bool

const (
	durable    durability = true
	notDurable durability = false
)

// Clients miss nothing if the engine loses nothing and Durable says so.
func TestClientsOfADurableEngine(t *testing.T) {
	t.Parallel()
	testClients(t, start(t, "--appendonly", "yes", "--appendfsync", "always"), durable)
}

// Clients get a gap for each crash if Durable is not set, also if the engine lost nothing.
func TestClientsOfAnUndeclaredEngine(t *testing.T) {
	longtest.Only(t) // TestClientsOfALossyEngine expects the same gaps
	testClients(t, start(t, "--appendonly", "yes", "--appendfsync", "always"), notDurable)
}

// Clients get a gap for each crash if the engine loses everything.
func TestClientsOfALossyEngine(t *testing.T) {
	t.Parallel()
	testClients(t, start(t), notDurable)
}

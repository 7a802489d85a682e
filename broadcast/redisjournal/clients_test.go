package redisjournal_test

import (
	"log/slog"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
	"github.com/fanfare-go/fanfare/internal/clustertest"
)

// clients runs clients on several servers while Redis crashes twice.
func clients(t *testing.T, s *server, durable, loses bool) {
	crash := func(*testing.T) {
		s.crash()
		s.run()
	}
	clustertest.Test(t, clustertest.Config{
		Open: func(*testing.T) (broadcast.Journal, func()) {
			client := redis.NewClient(&redis.Options{Addr: s.address})
			return &redisjournal.Journal{Client: client, Durable: durable, Logger: slog.New(slog.DiscardHandler)}, func() { _ = client.Close() }
		},
		Faults: []func(*testing.T){crash, crash},
		Loses:  loses,
	})
}

func TestClientsOfDurable(t *testing.T) {
	clients(t, start(t, "--appendonly", "yes", "--appendfsync", "always"), true, false)
}

func TestClientsOfOneThatWritesAll(t *testing.T) {
	// Each restart is a gap, since nobody says that nothing was lost.
	clients(t, start(t, "--appendonly", "yes", "--appendfsync", "always"), false, true)
}

func TestClientsOfOneThatLosesAll(t *testing.T) { clients(t, start(t), false, true) }

package redisjournal_test

import (
	"log/slog"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
	"github.com/fanfare-go/fanfare/internal/clustertest"
)

// A user who is signed out on one server loses the streams on all within a second.
func TestRevoke(t *testing.T) {
	s := start(t)
	clustertest.TestRevoke(t, clustertest.Config{Open: func(*testing.T) (broadcast.Journal, func()) {
		client := redis.NewClient(&redis.Options{Addr: s.address})
		return &redisjournal.Journal{Client: client, Logger: slog.New(slog.DiscardHandler)}, func() { _ = client.Close() }
	}})
}

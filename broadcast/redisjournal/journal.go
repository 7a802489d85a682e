package redisjournal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// Journal is a [broadcast.Journal] on one stream of Redis. Its fields are set before
// its first use. It may be used by several goroutines, and has nothing to close: a
// Tail's connection ends with the Tail.
type Journal struct {
	// Client is how Redis is reached: a [*redis.Client], also one that asks Sentinel,
	// or a [*redis.ClusterClient]. It is needed, and its owner closes it. Append and
	// Bounds use its connections, and are sent once, whatever its MaxRetries; each Tail
	// makes a connection of its own to the same address.
	Client redis.UniversalClient

	// Key is the stream's. Several journals in one Redis need several keys. If empty,
	// "fanfare".
	Key string

	// MaxEntries is how many of the newest entries are kept, and up to a few hundred
	// more: Redis lets them go in blocks. If zero, 100,000.
	MaxEntries int64

	// Durable says that the engine loses nothing that it acknowledged, neither by a
	// crash nor by a failover: these are then no gap. Where it is not so, messages are
	// lost in silence and IDs are given twice. It must be the same on all servers.
	Durable bool

	// Logger gets what happened to the stream. If nil, slog.Default().
	Logger *slog.Logger
}

const (
	defaultKey        = "fanfare"
	defaultMaxEntries = 100_000
)

func (j *Journal) key() string {
	if j.Key == "" {
		return defaultKey
	}
	return j.Key
}

func (j *Journal) maxEntries() int64 {
	if j.MaxEntries == 0 {
		return defaultMaxEntries
	}
	return j.MaxEntries
}

func (j *Journal) logger() *slog.Logger {
	if j.Logger == nil {
		return slog.Default()
	}
	return j.Logger
}

// check begins each call: it says which field makes the Journal impossible to use,
// or that ctx has ended.
func (j *Journal) check(ctx context.Context) error {
	switch j.Client.(type) {
	case *redis.Client, *redis.ClusterClient:
	case nil:
		return errors.New("redisjournal: Journal.Client is nil")
	default:
		return fmt.Errorf("redisjournal: Journal.Client is a %T: it must be a *redis.Client or a *redis.ClusterClient", j.Client)
	}
	if j.MaxEntries < 0 {
		return fmt.Errorf("redisjournal: Journal.MaxEntries is %d: it must not be negative", j.MaxEntries)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("redisjournal: %w", err)
	}
	return nil
}

package redisjournal

import (
	"context"
	"log/slog"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Journal is a [broadcast.Journal] on a stream of Redis. Set its fields before the first
// use and do not change them afterwards; Client is required. All nodes that share a
// stream need the same settings. A Journal may be used by several goroutines.
//
// A Journal needs no Close. While a call runs it has one goroutine, and each Tail has a
// connection of its own and another goroutine. All end with the call, or a moment later; those
// that wait for Redis, at the latest with the client's ReadTimeout.
type Journal struct {
	// Client is a [*redis.Client], also one that uses Sentinel, or a
	// [*redis.ClusterClient]. The caller closes it. Append and Bounds use its
	// connections and send each command once, whatever its MaxRetries; so does each Tail
	// once a second. Each Tail opens a connection of its own to the same address, and closes
	// it when Client reaches another Redis.
	Client redis.UniversalClient

	// Key is the key of the stream. Journals that share one Redis need different keys. A second
	// key, the witness, says how far the stream goes; its name is in the package's documentation.
	// If empty, "fanfare".
	Key string

	// MaxEntries is how many of the newest entries are kept. Redis trims the stream in
	// blocks, so that it may keep a few hundred more. Each Append trims, so that the smallest
	// MaxEntries of all nodes holds; a node that keeps more logs a warning. If zero, 100,000.
	// It must not be negative, because nothing else limits the stream.
	MaxEntries int64

	// Durable declares that Redis loses nothing that it has acknowledged, neither by a
	// crash nor by a failover: these are then not a gap. If that is not true, only the loss of
	// what a running node or the witness has seen is a gap; other messages are lost without
	// one, and their IDs are given twice.
	Durable bool

	// Logger logs when the stream is created and when it gets a new epoch. If nil,
	// slog.Default().
	Logger *slog.Logger

	workers workers

	mu            sync.Mutex         // guards the fields below
	appender      appender           // what Append knows
	knowledge     knowledge          // of the stream
	tails         map[*tail]struct{} // that run
	removalLogged bool               // that others remove entries which this node keeps
	limits        limits             // of Redis, on the size of a message
	refusal       witnessRefusal     // of the witness's key
}

// Bounds asks Redis for the oldest entry that is kept and the newest that there ever was.
func (j *Journal) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	if err := j.check(ctx); err != nil {
		return broadcast.ID{}, broadcast.ID{}, err
	}
	s, err := j.readStream(ctx, j.Client, broadcast.ID{}, 0)
	if err != nil {
		return broadcast.ID{}, broadcast.ID{}, err
	}
	return broadcast.MakeID(s.floor.Epoch(), s.floor.Seq()+1), s.newest, nil
}

package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Journal is a [broadcast.Journal] in a stream of JetStream. Its fields are set
// before its first use; Conn is needed. All nodes that share a stream have the
// same settings: those that differ get [ErrUnusable]. A Journal must not be
// copied after its first use.
//
// It starts no goroutine of its own and needs no Close. While it is used, nats.go
// has one subscription and one goroutine for its acknowledgements, until Conn is
// closed.
type Journal struct {
	// Conn is the connection to NATS, which stays the caller's to close. It should
	// reconnect for ever ([nats.MaxReconnects] of -1): what has given up is closed
	// for good.
	Conn *nats.Conn

	// Stream is the name of the stream. If empty, "fanfare".
	Stream string

	// Subject is what the stream's only subject begins with. If empty, the
	// stream's name.
	Subject string

	// MaxAge is how long a message is kept, at least a minute. If zero, 24 hours;
	// if negative, as long as the other limits allow.
	MaxAge time.Duration

	// MaxMessages is how many messages are kept. If zero, 1,000,000; if negative,
	// as many as the other limits allow.
	MaxMessages int64

	// MaxBytes is how much the stream may hold. The engine sets it aside when the
	// stream is made. If zero, 1 GiB; if negative, as much as there is.
	MaxBytes int64

	// Replicas is on how many servers of a cluster the stream is. If zero, 1.
	Replicas int

	// Memory keeps the stream in the servers' memory. If false, it is on disk.
	Memory bool

	// Durable says that the engine loses nothing that it has acknowledged: three
	// replicas, on disks that are written at once (sync_interval: always). An
	// answer that knows less than this node has seen then comes from a server that
	// is behind, and is an error. If false, it means that the engine lost
	// something: the journal goes over to another epoch, which every client is
	// told as a gap.
	Durable bool

	// Logger gets what goes wrong. If nil, slog.Default().
	Logger *slog.Logger

	mu    sync.Mutex // guards what follows; never held over I/O
	js    jetstream.JetStream
	known known
}

// known is what this node has seen of the stream.
type known struct {
	epoch   uint64 // 0: nothing yet
	subject string
	newest  uint64    // the newest sequence that the engine has acknowledged, delivered or told
	tailed  uint64    // the newest entry that a Tail was given,
	at      time.Time // and when the engine had stored that one
}

// ErrUnusable says that only a person can put it right: a field is impossible, or
// the stream has other settings.
var ErrUnusable = errors.New("natsjournal: unusable")

const (
	// patience is how long the engine may be away before a call, or a Tail that
	// has lost its consumer, gives up.
	patience = 10 * time.Second

	// answer is how long one question to the engine may take.
	answer = 3 * time.Second

	// again is the pause before it is asked again.
	again = 50 * time.Millisecond
)

func (j *Journal) logger() *slog.Logger {
	if j.Logger == nil {
		return slog.Default()
	}
	return j.Logger
}

// engine returns the way to JetStream, or says which field makes it impossible.
func (j *Journal) engine() (jetstream.JetStream, error) {
	switch {
	case j.Conn == nil:
		return nil, fmt.Errorf("%w: Journal.Conn is nil", ErrUnusable)
	case j.MaxAge > 0 && j.MaxAge < time.Minute:
		return nil, fmt.Errorf("%w: Journal.MaxAge is %v: it must be at least a minute", ErrUnusable, j.MaxAge)
	case j.Replicas < 0:
		return nil, fmt.Errorf("%w: Journal.Replicas is %d: it must not be negative", ErrUnusable, j.Replicas)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.js == nil {
		// Callers bound what is on its way, and Append the wait for it. An
		// acknowledgement that was lost must not be waited for as long as that.
		js, err := jetstream.New(j.Conn,
			jetstream.WithPublishAsyncMaxPending(math.MaxInt32),
			jetstream.WithPublishAsyncTimeout(answer))
		if err != nil {
			return nil, fmt.Errorf("natsjournal: %w", err)
		}
		j.js = js
	}
	return j.js, nil
}

// Bounds asks the stream's leader. What others added that have not been
// acknowledged yet may be counted already.
func (j *Journal) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	v, err := j.look(ctx)
	if err != nil {
		return broadcast.ID{}, broadcast.ID{}, err
	}
	return broadcast.MakeID(v.epoch, v.oldest), broadcast.MakeID(v.epoch, v.newest), nil
}

// seen notes an entry of an epoch that the engine has told of, with the time when
// it was stored if that is known.
func (j *Journal) seen(epoch, seq uint64, at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if epoch != j.known.epoch {
		return
	}
	j.known.newest = max(j.known.newest, seq)
	if !at.IsZero() && seq >= j.known.tailed {
		j.known.tailed, j.known.at = seq, at
	}
}

// have returns what this node has seen.
func (j *Journal) have() known {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.known
}

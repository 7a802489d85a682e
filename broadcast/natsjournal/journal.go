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

// Journal is a [broadcast.Journal] on a stream of JetStream. Set its fields before the
// first use and do not change them afterwards; Conn is required. All nodes that share
// a stream need the same settings: a node whose settings differ gets [ErrUnusable]. A
// Journal must not be copied after its first use.
//
// A Journal starts no goroutine and needs no Close. From its first use until Conn is
// closed, nats.go keeps one subscription and one goroutine for acknowledgements.
type Journal struct {
	// Conn is the connection to NATS. The caller closes it. It should reconnect
	// without limit ([nats.MaxReconnects] of -1): a connection that has given up stays
	// closed.
	Conn *nats.Conn

	// Stream is the name of the stream. If empty, "fanfare".
	Stream string

	// Subject is the first part of the stream's only subject. If empty, the name of
	// the stream.
	Subject string

	// MaxAge is how long a message is kept, at least a minute. If zero, 24 hours; if
	// negative, age is not limited.
	MaxAge time.Duration

	// MaxMessages is how many messages are kept. If zero, 1,000,000; if negative,
	// their number is not limited.
	MaxMessages int64

	// MaxBytes is the maximum size of the stream in bytes. JetStream reserves it when
	// the stream is created. If zero, 1 GiB; if negative, size is not limited.
	MaxBytes int64

	// Replicas is on how many servers of a cluster the stream is stored. If zero, 1.
	// It must not be negative.
	Replicas int

	// Memory stores the stream in the memory of the servers. If false, it is stored on
	// disk.
	Memory bool

	// Durable declares that JetStream loses nothing that it has acknowledged, as with
	// three replicas on disks that are written at once (sync_interval: always). If an
	// answer knows less than this node has seen, its server must lag behind, and the call
	// returns an error. If false, such an answer means that entries were lost: the Journal
	// asks again for a moment, then begins a new epoch, which every client gets as a gap.
	Durable bool

	// Logger logs the loss of entries, and at debug level each consumer that a Tail
	// replaces. If nil, slog.Default().
	Logger *slog.Logger

	// mu guards the fields below. It is never held during I/O.
	mu        sync.Mutex
	js        jetstream.JetStream // created at the first use
	knowledge knowledge
}

// ErrUnusable is wrapped by errors that only an operator can resolve: a field of the
// Journal has an impossible value, or the stream has other settings.
var ErrUnusable = errors.New("natsjournal: unusable")

const (
	// maxOutage is how long the engine may be unreachable before a call, or a Tail
	// without a consumer, gives up.
	maxOutage = 10 * time.Second

	// requestTimeout bounds one request to the engine.
	requestTimeout = 3 * time.Second

	// retryPause is the pause before a request is repeated.
	retryPause = 50 * time.Millisecond
)

// Bounds asks the leader of the stream. The result may include entries that other nodes
// have sent and whose acknowledgement is still under way.
func (j *Journal) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	s, err := j.readStream(ctx)
	if err != nil {
		return broadcast.ID{}, broadcast.ID{}, err
	}
	return broadcast.MakeID(s.epoch, s.oldest), broadcast.MakeID(s.epoch, s.newest), nil
}

// jetStream returns the client for JetStream.
func (j *Journal) jetStream() (jetstream.JetStream, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.js != nil {
		return j.js, nil
	}
	// The callers of Append bound how many entries are in flight, so nats.go needs no
	// limit. Append may wait longer than requestTimeout, but not for an acknowledgement
	// that was lost.
	js, err := jetstream.New(j.Conn,
		jetstream.WithPublishAsyncMaxPending(math.MaxInt32),
		jetstream.WithPublishAsyncTimeout(requestTimeout))
	if err != nil {
		return nil, fmt.Errorf("natsjournal: %w", err)
	}
	j.js = js
	return js, nil
}

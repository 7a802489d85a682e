package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Journal is a [broadcast.Journal] on a stream of JetStream. Set its fields before the
// first use and do not change them afterwards; Conn is required. Give all nodes that share
// a stream the same values. MaxAge, MaxMessages, MaxBytes, Replicas and Memory are those of
// the stream that the first node creates; a node that finds other values, as after "nats
// stream edit", logs that once and uses the stream as it is. A Journal must not be copied
// after its first use.
//
// A Journal starts no goroutine and needs no Close. From its first Append until Conn is
// closed, nats.go keeps one subscription and one goroutine for acknowledgements.
type Journal struct {
	// Conn is the connection to NATS. The caller closes it, after the Hub. [Connect] makes
	// one that never gives up; a connection that has given up stays closed, and its Journal
	// is [ErrUnusable]. If a server does not answer a ping while a Tail or an Append waits
	// for it, the Journal makes Conn reconnect.
	Conn *nats.Conn

	// Domain is the JetStream domain of the stream, such as that of a hub to which Conn's
	// server is a leaf node. If empty, that of Conn's server.
	Domain string

	// APIPrefix is the beginning of the subjects of JetStream's API, for one that is
	// imported from another account, such as "JS.logs.API". If empty, "$JS.API". At most
	// one of Domain and APIPrefix may be set.
	APIPrefix string

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
	// the stream is created, on each replica, and refuses to create a stream for which
	// max_file_store (with Memory: max_memory_store) has no room. If zero, 1 GiB; if
	// negative, size is not limited.
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
	// So it does when it starts where no other node follows the stream and none has closed
	// cleanly.
	Durable bool

	// Logger logs the loss of entries, settings of the stream that are not this node's,
	// a connection that is closed or made anew, and at debug level each consumer that a
	// Tail replaces. If nil, slog.Default().
	Logger *slog.Logger

	// mu guards the fields below. It is never held during I/O.
	mu             sync.Mutex
	js             jetstream.JetStream // created at the first use
	publishing     *publisher          // created at the first use
	knowledge      knowledge
	seen           [2]sightings   // of the newest epoch that Tails have read, and of the one before
	looked         time.Time      // when the stream was looked at last
	warned         map[string]any // the values of settings that were warned of
	closedReported bool
	nonce          string        // the beginning of the IDs of entries
	entries        uint64        // how many entries have such an ID
	tails          int           // how many run
	alone          chan struct{} // has a token while nobody enters the stream or leaves it; nil before the first use
}

// ErrUnusable is wrapped by errors that only an operator can resolve: a field of the
// Journal has an impossible value, the stream has settings with which entries would be lost,
// refused or changed, JetStream has no room for it, or the connection is closed. Tail,
// Append and Bounds return it while that lasts.
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

// apiPrefix returns the beginning of the subjects of JetStream's API.
func (j *Journal) apiPrefix() string {
	switch {
	case j.Domain != "":
		return "$JS." + j.Domain + ".API."
	case j.APIPrefix != "":
		return strings.TrimSuffix(j.APIPrefix, ".") + "."
	}
	return jetstream.DefaultAPIPrefix
}

// jetStream returns the client for JetStream.
func (j *Journal) jetStream() (jetstream.JetStream, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.js != nil {
		return j.js, nil
	}
	js, err := jetstream.NewWithAPIPrefix(j.Conn, strings.TrimSuffix(j.apiPrefix(), "."))
	if err != nil {
		return nil, fmt.Errorf("natsjournal: %w", err)
	}
	j.js = js
	return js, nil
}

// acquire waits until nobody else enters the stream or leaves it. The caller calls release.
func (j *Journal) acquire(ctx context.Context) (release func(), err error) {
	j.mu.Lock()
	if j.alone == nil {
		j.alone = make(chan struct{}, 1)
		j.alone <- struct{}{}
	}
	alone := j.alone
	j.mu.Unlock()
	select {
	case <-alone:
		return func() { alone <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("natsjournal: %w", ctx.Err())
	}
}

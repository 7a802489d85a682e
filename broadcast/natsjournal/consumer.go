package natsjournal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// consumer reads the stream in order through an ephemeral JetStream consumer. It pulls a
// bounded number of entries at a time, so that no more entries wait than there is room
// for. It also detects losses that nats.go's ordered consumer passes over. A consumer
// does not recover: after any error it is closed, and the tail creates another one once
// it has verified the epoch.
//
// A consumer belongs to one goroutine.
type consumer struct {
	// Set when it is created.
	conn        *nats.Conn
	stream      jetstream.Stream
	name        string
	pullSubject string // pulls are requested on it
	inbox       string // the beginning of the subjects on which pulls are answered
	sub         *nats.Subscription
	messages    chan *nats.Msg   // from sub
	reconnected chan nats.Status // the connection was lost and is back, or is closed
	silence     *time.Timer      // fires if the engine sends nothing for maxSilence

	// The pull in flight.
	pulls     uint64 // how many there have been
	reply     string // subject of its answers; an answer to an earlier pull is ignored
	remaining int    // how many entries it may still deliver; 0: a new pull is needed
	delivered bool   // whether it has delivered any
	waited    bool   // the engine had nothing to deliver for a while

	consumerSeq uint64 // how many entries have come, as the engine counts them
}

// delivery is what the engine sent: an entry, or the sequence up to which it has none.
type delivery struct {
	seq      uint64    // of the entry, or of the last entry that the engine has passed
	storedAt time.Time // when the engine stored the entry
	entry    *nats.Msg // nil: nothing is kept up to seq, and there is nothing new
}

const (
	// A pull asks for at most pullEntries and pullBytes, or two of the largest entries; for
	// bigPullEntries if the one before was filled at once, so that a tail which is behind on a
	// network with a long delay needs few round trips.
	pullEntries    = 1024
	bigPullEntries = 8 * pullEntries
	pullBytes      = 16 << 20

	// pullExpiry is how long the engine waits for entries to fill a pull.
	pullExpiry = 30 * time.Second

	// heartbeat is how often the engine shows during a pull that it is alive.
	heartbeat  = time.Second
	maxSilence = 3 * heartbeat

	// inactiveThreshold is how long a consumer may go without a pull before the engine
	// deletes it. Its node has died then, or has been busy all that time.
	inactiveThreshold = time.Minute
)

var (
	errReconnected = errors.New("natsjournal: the connection was lost")
	errSilent      = errors.New("natsjournal: the consumer is silent")
	errMissed      = errors.New("natsjournal: deliveries were lost")
)

// consume creates a consumer that reads after a sequence.
func (j *Journal) consume(ctx context.Context, s streamState, after uint64) (*consumer, error) {
	c := &consumer{
		conn:     j.Conn,
		stream:   s.stream,
		name:     consumerPrefix + rand.Text(),
		inbox:    j.Conn.NewInbox() + ".",
		messages: make(chan *nats.Msg, bigPullEntries+int(pullExpiry/heartbeat)+8), // with the heartbeats of a pull
		silence:  time.NewTimer(maxSilence),
	}
	c.pullSubject = fmt.Sprintf("%sCONSUMER.MSG.NEXT.%s.%s", j.apiPrefix(), j.stream(), c.name)
	c.reconnected = j.Conn.StatusChanged(nats.CONNECTED, nats.CLOSED)
	if err := c.open(ctx, after); err != nil {
		c.close(ctx)
		return nil, fmt.Errorf("natsjournal: creating a consumer of stream %q: %w", j.stream(), err)
	}
	return c, nil
}

// open subscribes to the answers and creates the consumer in the engine.
func (c *consumer) open(ctx context.Context, after uint64) (err error) {
	c.sub, err = c.conn.ChanSubscribe(c.inbox+"*", c.messages)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = c.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Name:              c.name,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       after + 1,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: thresholdFor(c.stream, inactiveThreshold),
		MemoryStorage:     true, // so that it does not survive a restart of the server
		Replicas:          1,
	})
	return err
}

// thresholdFor returns a threshold, or the longest one that the stream allows.
func thresholdFor(stream jetstream.Stream, threshold time.Duration) time.Duration {
	if limit := stream.CachedInfo().Config.ConsumerLimits.InactiveThreshold; limit > 0 {
		return min(threshold, limit)
	}
	return threshold
}

// close releases what the consumer has here and, if there is a connection, deletes it
// in the engine. Without a connection it expires there.
func (c *consumer) close(ctx context.Context) {
	c.silence.Stop()
	c.conn.RemoveStatusListener(c.reconnected)
	if c.sub != nil {
		c.sub.Unsubscribe()
	}
	if !c.conn.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), heartbeat)
	defer cancel()
	c.stream.DeleteConsumer(ctx, c.name) // it may not exist any more
}

// next returns the next delivery. While the engine has nothing to deliver, next returns
// with a heartbeat, at least every maxSilence.
func (c *consumer) next(ctx context.Context) (delivery, error) {
	for {
		if c.remaining == 0 {
			if err := c.pull(); err != nil {
				return delivery{}, err
			}
		}
		m, err := c.receive(ctx)
		if err != nil {
			return delivery{}, err
		}
		var d delivery
		switch {
		case m.Reply != "":
			d, err = c.parseEntry(m)
		case m.Subject == c.reply:
			d, err = c.parseStatus(m)
		}
		if err != nil || d.seq != 0 {
			return d, err
		}
	}
}

// pull requests entries. Only one pull is in flight at a time, so that it is known how
// many entries may still come.
func (c *consumer) pull() error {
	entries := pullEntries
	if c.delivered && !c.waited {
		entries = bigPullEntries
	}
	request, err := json.Marshal(map[string]int64{
		"batch":          int64(entries),
		"max_bytes":      max(pullBytes, 2*c.conn.MaxPayload()),
		"expires":        int64(pullExpiry),
		"idle_heartbeat": int64(heartbeat),
	})
	if err != nil {
		return fmt.Errorf("natsjournal: pulling entries: %w", err)
	}
	c.pulls++
	c.reply = c.inbox + strconv.FormatUint(c.pulls, 10)
	if err := c.conn.PublishRequest(c.pullSubject, c.reply, request); err != nil {
		return fmt.Errorf("natsjournal: pulling entries: %w", err)
	}
	c.remaining, c.delivered, c.waited = entries, false, false
	return nil
}

// receive returns the next message on the inbox. A message that may have come over a
// new connection is not returned: before that the tail verifies the epoch.
func (c *consumer) receive(ctx context.Context) (m *nats.Msg, err error) {
	select {
	case m = <-c.messages: // most often, while there is much to read: without a timer
	default:
		if m, err = c.await(ctx); err != nil {
			return nil, err
		}
	}
	select {
	case <-c.reconnected:
		return nil, errReconnected
	default:
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	default:
	}
	return m, nil
}

// await waits for the next message on the inbox.
func (c *consumer) await(ctx context.Context) (*nats.Msg, error) {
	c.silence.Reset(maxSilence)
	select {
	case m := <-c.messages:
		return m, nil
	case <-c.reconnected:
		return nil, errReconnected
	case <-c.silence.C:
		return nil, errSilent
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *consumer) parseEntry(m *nats.Msg) (delivery, error) {
	p, ok := parsePlace(m.Reply)
	if !ok {
		return delivery{}, fmt.Errorf("natsjournal: reading where an entry stands in the stream: the engine sent %q", m.Reply)
	}
	if p.consumerSeq != c.consumerSeq+1 {
		return delivery{}, errMissed
	}
	c.consumerSeq++
	c.remaining--
	c.delivered = true
	return delivery{seq: p.streamSeq, storedAt: p.storedAt, entry: m}, nil
}

// Values of the header Status in answers that are not entries.
const (
	statusHeartbeat = "100"
	statusExpired   = "408"
)

// parseStatus handles what the engine reports about the pull in flight. A heartbeat is a
// delivery without an entry.
func (c *consumer) parseStatus(m *nats.Msg) (delivery, error) {
	switch status := m.Header.Get("Status"); {
	case status == statusHeartbeat:
		return c.parseHeartbeat(m)
	case status == statusExpired, c.delivered: // the pull has ended; the next one shows whether anything is wrong
		c.remaining = 0
		return delivery{}, nil
	default:
		return delivery{}, fmt.Errorf("natsjournal: the consumer ended: %s %s", status, m.Header.Get("Description"))
	}
}

func (c *consumer) parseHeartbeat(m *nats.Msg) (delivery, error) {
	c.waited = true
	sent, err := strconv.ParseUint(m.Header.Get("Nats-Last-Consumer"), 10, 64)
	if err != nil {
		return delivery{}, nil
	}
	if sent != c.consumerSeq {
		return delivery{}, errMissed
	}
	passed, err := strconv.ParseUint(m.Header.Get("Nats-Last-Stream"), 10, 64)
	if err != nil {
		return delivery{}, nil
	}
	return delivery{seq: passed}, nil
}

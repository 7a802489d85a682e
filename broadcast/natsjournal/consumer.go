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

// consumer reads the stream in order through an ephemeral consumer of its own. It
// asks for a number of entries at a time, so that no more wait here than there is
// room for, and checks what nats.go's own ordered consumer does not tell. It
// never recovers: whatever is wrong ends it, and a new one is made once the epoch
// has been verified.
type consumer struct {
	conn        *nats.Conn
	stream      jetstream.Stream
	name        string
	requests    string // the subject that entries are asked for on
	sub         *nats.Subscription
	messages    chan *nats.Msg
	reconnected chan nats.Status
	silence     *time.Timer
	inbox       string
	request     string // where the request that is under way is answered: what came for one before it is old
	asked       uint64 // how many there were
	wanted      int    // how many entries the request may still bring
	brought     bool   // whether it brought any
	delivered   uint64 // how many entries there were: the consumer's own sequence
}

// delivery is what the engine sent.
type delivery struct {
	seq   uint64    // of the entry, or of the last one that the engine has passed over
	at    time.Time // when it stored the entry
	entry *nats.Msg // nil: there is nothing up to seq any more, and nothing new
}

const (
	batch      = 1024
	batchBytes = 16 << 20 // of the entries that wait, or at least two of the largest

	expires   = 30 * time.Second
	heartbeat = time.Second
	silence   = 3 * heartbeat

	// abandoned is when the engine deletes a consumer that nobody asks: one whose
	// node died, or has been busy for so long.
	abandoned = time.Minute
)

var (
	errReconnected = errors.New("natsjournal: the connection was made anew")
	errSilent      = errors.New("natsjournal: the consumer is silent")
	errDisordered  = errors.New("natsjournal: entries were lost on the way")
)

// consume begins to read behind a sequence.
func (j *Journal) consume(ctx context.Context, v view, after uint64) (*consumer, error) {
	c := &consumer{
		conn:     j.Conn,
		stream:   v.stream,
		name:     "fanfare_" + rand.Text(),
		inbox:    j.Conn.NewInbox() + ".",
		messages: make(chan *nats.Msg, batch+int(expires/heartbeat)+8), // and the heartbeats meanwhile
		silence:  time.NewTimer(silence),
	}
	c.requests = fmt.Sprintf("%sCONSUMER.MSG.NEXT.%s.%s", jetstream.DefaultAPIPrefix, j.stream(), c.name)
	c.reconnected = j.Conn.StatusChanged(nats.CONNECTED)
	var err error
	if c.sub, err = j.Conn.ChanSubscribe(c.inbox+"*", c.messages); err == nil {
		ctx, cancel := context.WithTimeout(ctx, answer)
		defer cancel()
		_, err = v.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
			Name:              c.name,
			DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
			OptStartSeq:       after + 1,
			AckPolicy:         jetstream.AckNonePolicy,
			InactiveThreshold: abandoned,
			MemoryStorage:     true, // a restarted server must not go on with it
			Replicas:          1,
		})
	}
	if err != nil {
		c.close(ctx)
		return nil, fmt.Errorf("natsjournal: making a consumer of stream %q: %w", j.stream(), err)
	}
	return c, nil
}

// close leaves nothing behind, here and, if it answers, in the engine.
func (c *consumer) close(ctx context.Context) {
	c.silence.Stop()
	c.conn.RemoveStatusListener(c.reconnected)
	if c.sub != nil {
		c.sub.Unsubscribe()
	}
	if !c.conn.IsConnected() {
		return // it has been abandoned
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), heartbeat)
	defer cancel()
	c.stream.DeleteConsumer(ctx, c.name) // it may be gone already
}

// next returns what the engine sends next, at the latest the second heartbeat
// after its last words.
func (c *consumer) next(ctx context.Context) (delivery, error) {
	for {
		if c.wanted == 0 {
			if err := c.ask(); err != nil {
				return delivery{}, err
			}
		}
		c.silence.Reset(silence)
		var m *nats.Msg
		select {
		case m = <-c.messages:
		case <-c.reconnected:
			return delivery{}, errReconnected
		case <-c.silence.C:
			return delivery{}, errSilent
		case <-ctx.Done():
			return delivery{}, ctx.Err()
		}
		select {
		case <-c.reconnected: // the message may be from the new connection
			return delivery{}, errReconnected
		default:
		}
		var d delivery
		var err error
		switch {
		case m.Reply != "":
			d, err = c.entry(m)
		case m.Subject == c.request:
			d, err = c.status(m)
		}
		if err != nil || d.seq != 0 {
			return d, err
		}
	}
}

// ask asks for entries. Only one request is under way at a time: what is left of
// it is known then.
func (c *consumer) ask() error {
	request, err := json.Marshal(map[string]int64{
		"batch":          batch,
		"max_bytes":      max(batchBytes, 2*c.conn.MaxPayload()),
		"expires":        int64(expires),
		"idle_heartbeat": int64(heartbeat),
	})
	if err != nil {
		return fmt.Errorf("natsjournal: asking for entries: %w", err)
	}
	c.asked++
	c.request = c.inbox + strconv.FormatUint(c.asked, 10)
	if err := c.conn.PublishRequest(c.requests, c.request, request); err != nil {
		return fmt.Errorf("natsjournal: asking for entries: %w", err)
	}
	c.wanted, c.brought = batch, false
	return nil
}

func (c *consumer) entry(m *nats.Msg) (delivery, error) {
	meta, err := m.Metadata()
	if err != nil {
		return delivery{}, fmt.Errorf("natsjournal: an entry: %w", err)
	}
	if meta.Sequence.Consumer != c.delivered+1 {
		return delivery{}, errDisordered
	}
	c.delivered++
	c.wanted--
	c.brought = true
	return delivery{seq: meta.Sequence.Stream, at: meta.Timestamp, entry: m}, nil
}

// status understands what the engine says about the request. A heartbeat is a
// delivery without an entry.
func (c *consumer) status(m *nats.Msg) (delivery, error) {
	switch status := m.Header.Get("Status"); {
	case status == "100":
		delivered, err := strconv.ParseUint(m.Header.Get("Nats-Last-Consumer"), 10, 64)
		if err != nil {
			return delivery{}, nil
		}
		if delivered != c.delivered {
			return delivery{}, errDisordered
		}
		passed, err := strconv.ParseUint(m.Header.Get("Nats-Last-Stream"), 10, 64)
		if err != nil {
			return delivery{}, nil
		}
		return delivery{seq: passed}, nil
	case status == "408", c.brought: // it expired, or brought what it could: the next one tells
		c.wanted = 0
		return delivery{}, nil
	default:
		return delivery{}, fmt.Errorf("natsjournal: the consumer ended: %s %s", status, m.Header.Get("Description"))
	}
}

package broadcast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/ratelog"
)

// Hub is a [Broadcaster] in this process's memory. The zero Hub works; its
// fields are set before its first use. A Hub must not be copied after that.
//
// Messages in memory die with the process. A restarted Hub has another epoch, and clients
// that come back get a gap. Two Hubs in memory with one load balancer before them have two
// epochs, too: a client that moves between them gets a gap, and then all that the other one
// keeps. Several servers need a [Journal] that they share.
type Hub struct {
	// Keep is how many events are kept for each topic, for clients that
	// resume and for slow readers. If zero, 256.
	Keep int

	// Values is how many values of Keys are kept for each topic, and how many removals. Beyond
	// it the one that has not changed for the longest time is evicted. If zero, 10,000.
	Values int

	// Retain is what is kept of the topics with a prefix, by that. The longest prefix of a
	// topic counts, when the topic is created. If nil, all topics are kept alike.
	Retain map[string]Retention

	// KeepBytes bounds what the Hub keeps, in bytes of memory: messages, topics without
	// subscriptions, and history read from a Journal for clients that resume. A message
	// counts its Topic, Type, Key, From and Data and 200 bytes, and 100 more with a Key; a
	// topic its name and 250 bytes, and 500 more with Keys. Beyond KeepBytes the oldest event
	// or removal is evicted, whatever its topic, or the oldest value where values are more
	// than half of it, and a topic that has neither messages nor subscriptions left is
	// forgotten. A message that does not fit with its topic is refused. All history together
	// has at most a quarter, that of one client an eighth; a client whose history does not fit
	// gets a gap. If zero, 64 MiB.
	//
	// Subscriptions do not count: each takes about 400 bytes, and 150 for each of its topics
	// if there are several; where topics have Keys, 200 more and 32 for each topic. A topic
	// that only it has takes 250 bytes and its name more. They hold no messages: a slow client
	// pins those that its stream is writing, and the Last messages that it began with.
	KeepBytes int64

	// MaxMessage is how many bytes a message may have on the wire, where it is largest: in
	// JSON, with what has to be escaped and, if it is Binary, in base64. A larger one is
	// refused by Publish, and dropped and logged if it comes from the Journal. Clients that
	// accept as much get every message; those of this kit accept 1 MiB by default, so raise
	// their limits (ws.Options.MaxMessage, sse.Client.MaxEvent) first. Hubs on one Journal
	// have the same MaxMessage. If zero, 1 MiB; if negative, there is no limit.
	MaxMessage int64

	// TopicTTL is how long an unused topic is kept, after the last subscription to it has
	// been closed and the last message published. A client that is away from a quiet topic
	// for less than that resumes without a gap. The topic's messages are forgotten with it,
	// for SubscribeOptions.Last too. If zero, 5 minutes.
	TopicTTL time.Duration

	// Journal is the log that this Hub shares with others. Run follows it, and has to run:
	// without it no message arrives, and a Hub that is used logs a warning. A client that
	// resumes from before what the Hub keeps is served from it, from at most 262,144 entries
	// back and with at most 16 times Keep events and twice Values Keys of each topic; one that
	// has missed more gets a gap. If nil, the Hub is in memory only.
	Journal Journal

	// Logger gets failures of the Journal and panics. It is not used while a lock is held,
	// so its handler may use the Hub. If nil, slog.Default().
	Logger *slog.Logger

	// head is the sequence of the newest entry that a Poll may return. It is written under
	// mu, and last: whatever a Poll must find has been set by then. Polls read it without mu.
	head atomic.Uint64

	// mu is locked briefly, and never during I/O, logging or a call of Notify. It is locked
	// before waker.mu and topic.mu.
	mu sync.Mutex

	// Guarded by mu.
	epoch     uint64 // 0 until the first use, or until the journal's is known
	kept      retention
	holes     holes
	subs      subscriptions // those that are open
	expiry    expiry
	closed    bool
	gaps      uint64 // see HubStats
	follower  follower
	watch     watch
	lag       lag
	resolver  resolver
	historian historian

	// With locks of their own, or atomic.
	past     past
	waker    waker
	appender appender
	reports  ratelog.Log // of what clients can cause
}

const (
	defaultKeep       = 256
	defaultValues     = 10_000
	defaultKeepBytes  = 64 << 20
	defaultMaxMessage = 1 << 20 // as the clients of this kit accept by default
	defaultTopicTTL   = 5 * time.Minute
	maxTopics         = 1000
)

func (h *Hub) keep() int { return cmp.Or(h.Keep, defaultKeep) }

func (h *Hub) values() int { return cmp.Or(h.Values, defaultValues) }

func (h *Hub) keepBytes() int64 { return cmp.Or(h.KeepBytes, defaultKeepBytes) }

// validate says why a message cannot be published, by this Hub or by another one.
func (h *Hub) validate(m *Message) error { return m.validate(cmp.Or(h.MaxMessage, defaultMaxMessage)) }

func (h *Hub) topicTTL() time.Duration { return cmp.Or(h.TopicTTL, defaultTopicTTL) }

// check returns an error that names the field which cannot be used.
func (h *Hub) check() error {
	switch {
	case h.Keep < 0:
		return fmt.Errorf("broadcast: Hub.Keep is %d: it must not be negative", h.Keep)
	case h.Values < 0:
		return fmt.Errorf("broadcast: Hub.Values is %d: it must not be negative", h.Values)
	case h.KeepBytes < 0:
		return fmt.Errorf("broadcast: Hub.KeepBytes is %d: it must not be negative", h.KeepBytes)
	case h.TopicTTL < 0:
		return fmt.Errorf("broadcast: Hub.TopicTTL is %v: it must not be negative", h.TopicTTL)
	}
	return nil
}

// guard calls a function of the user's or of the engine's from a goroutine in which nothing
// else recovers. A panic there is logged and returned as an error, instead of ending the
// process. The caller holds no lock.
func (h *Hub) guard(where string, f func() error) error {
	err := guard.Call(where, f)
	if p, ok := err.(*guard.PanicError); ok {
		h.log(slog.LevelError, "broadcast: panic in "+where, "panic", p.Value, "stack", string(p.Stack))
		return fmt.Errorf("broadcast: panic in %s: %v", where, p.Value)
	}
	return err
}

// log writes a line. A Logger that panics must end neither the process nor what logs. The
// caller holds no lock.
func (h *Hub) log(level slog.Level, text string, args ...any) {
	_ = guard.Call("Logger", func() error {
		cmp.Or(h.Logger, slog.Default()).Log(context.Background(), level, text, args...)
		return nil
	})
}

// use is the beginning of each call. The first one starts the Hub's clock, and draws the epoch
// of a Hub in memory. The caller holds mu.
func (h *Hub) use(now time.Time) error {
	if h.closed {
		return ErrClosed
	}
	if h.epoch == 0 && h.Journal == nil {
		for h.epoch <= unknownEpoch {
			h.epoch = rand.Uint64()
		}
	}
	if h.kept.began.IsZero() {
		if err := h.kept.classes.set(h); err != nil {
			return err
		}
		h.kept.began = now
	}
	if h.Journal != nil {
		h.expectRun()
	}
	return nil
}

// trim evicts what is more than KeepBytes. It follows everything that makes the Hub keep more.
// The caller holds mu.
func (h *Hub) trim(now time.Time) {
	h.kept.trim(h.keepBytes() - h.past.bytes.Load())
	h.scheduleExpiry(now)
}

// Publish appends m to the log.
//
// In memory it does not block, and takes the same time for any number of subscribers. It
// fails only if m is invalid or larger than MaxMessage or KeepBytes, its topic has ended
// ([ErrEnded]), ctx has ended, the Hub is closed or a field of the Hub is invalid. These errors
// wrap [ErrNotPublished].
//
// With a Journal it returns when the engine has acknowledged the message, or when ctx ends.
// If the error wraps ErrNotPublished the message does not arrive; after any other error it
// may. Messages that wait are appended together. Those of several goroutines are in any
// order. Those of one goroutine are in the order of its calls, except that a message whose
// context ended before the engine answered may come after the next one.
func (h *Hub) Publish(ctx context.Context, m Message) (ID, error) {
	if err := h.publishable(ctx, &m); err != nil {
		return ID{}, fmt.Errorf("%w: %w", ErrNotPublished, err)
	}
	now := time.Now()
	h.mu.Lock()
	if err := h.use(now); err != nil {
		h.mu.Unlock()
		return ID{}, fmt.Errorf("%w: %w", ErrNotPublished, err)
	}
	if h.kept.refuses(&m) {
		h.mu.Unlock()
		return ID{}, fmt.Errorf("%w: %w: %q", ErrNotPublished, ErrEnded, m.Topic)
	}
	if h.Journal != nil {
		h.mu.Unlock()
		return h.append(ctx, m)
	}
	m.ID = ID{h.epoch, h.head.Load() + 1}
	t := h.insert(&m, now)
	h.mu.Unlock()
	h.waker.wake(h, t)
	return m.ID, nil
}

func (h *Hub) publishable(ctx context.Context, m *Message) error {
	if err := h.check(); err != nil {
		return err
	}
	if err := h.validate(m); err != nil {
		return err
	}
	if need := m.costWithTopic(); need > h.keepBytes() {
		return fmt.Errorf("the message needs %d bytes with its topic, Hub.KeepBytes is %d", need, h.keepBytes())
	}
	return ctx.Err()
}

// insert makes m, whose ID is the next one, the head of the log. The caller holds mu, and
// calls waker.wake with the topic once it has released mu.
func (h *Hub) insert(m *Message, now time.Time) *topic {
	t := h.keepMessage(m, now)
	h.waker.announce(t)
	h.head.Store(m.ID.seq)
	return t
}

// Subscribe opens a subscription. An After that the log does not have (of another epoch,
// ahead of the log, no longer kept) is not an error: the subscription begins with a gap. While
// the Hub is deaf (see Ready) the error wraps [ErrNotFollowing].
//
// Subscribe does not wait, except for up to two seconds for the first answer of a Journal, if
// Run has begun and there is no After: what is now is not known before that.
func (h *Hub) Subscribe(ctx context.Context, opts SubscribeOptions) (Subscription, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	topics, err := distinct(opts.Topics)
	if err != nil {
		return nil, fmt.Errorf("broadcast: SubscribeOptions.Topics: %w", err)
	}
	if opts.Last < 0 {
		return nil, fmt.Errorf("broadcast: SubscribeOptions.Last is %d: it must not be negative", opts.Last)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("broadcast: %w", err)
	}
	if opts.After.IsZero() {
		if err := h.hearOfJournal(ctx); err != nil {
			return nil, fmt.Errorf("broadcast: %w", err)
		}
	}
	s, err := newSubscription(h, topics, opts)
	if err != nil {
		return nil, err // not s, which would be a Subscription that is not nil
	}
	return s, nil
}

// distinct validates topics and removes duplicates.
func distinct(topics []string) ([]string, error) {
	if len(topics) == 0 {
		return nil, errors.New("at least one topic is needed")
	}
	if len(topics) > maxTopics {
		return nil, fmt.Errorf("%d topics, at most %d are allowed", len(topics), maxTopics)
	}
	if len(topics) == 1 {
		return topics, validTopic(topics[0])
	}
	names := make([]string, 0, len(topics))
	seen := make(map[string]bool, len(topics))
	for _, name := range topics {
		if err := validTopic(name); err != nil {
			return nil, err
		}
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names, nil
}

// Position returns the newest position of the log. A page misses nothing if its server takes
// the Position first, then reads what the page shows, and lets the page's stream resume from
// the Position. It is never the zero ID. If the log's position is not known yet, because the
// Journal has not answered, it is one that resumes as a gap.
func (h *Hub) Position(ctx context.Context) (ID, error) {
	if err := ctx.Err(); err != nil {
		return ID{}, fmt.Errorf("broadcast: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.use(time.Now()); err != nil {
		return ID{}, err
	}
	switch {
	case !h.follower.published.IsZero():
		return h.follower.published, nil
	case h.epoch == 0:
		return ID{epoch: unknownEpoch}, nil
	}
	return ID{h.epoch, h.newest()}, nil
}

// HubStats is a snapshot of a Hub.
type HubStats struct {
	Topics        int    // topics that are kept
	Messages      int    // messages kept
	Bytes         int64  // what counts against Hub.KeepBytes: these messages, topics without subscriptions, and history that is still to be returned
	Subscriptions int    // open subscriptions
	Gaps          uint64 // gaps that Polls have returned since the Hub's first use
	Position      ID     // the head of the log as this Hub has it; zero if not known yet

	// Following says that Run follows the Journal: its tail is open, the engine has answered since
	// then and within the last 5 seconds, and the tail yields what the engine has. It is false
	// without a Journal.
	Following bool

	// Behind is how many entries the Journal has, as far as this Hub knows, that it has not
	// taken yet. It asks every second. It is 0 without a Journal.
	Behind uint64

	// Lag is for how long this Hub has known of the oldest of these entries; 0 if there is none.
	Lag time.Duration
}

// Stats returns a snapshot of the Hub.
func (h *Hub) Stats() HubStats {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	behind, lag := h.behind(now)
	return HubStats{
		Topics:        len(h.kept.topics),
		Messages:      h.kept.messages,
		Bytes:         h.kept.bytes + h.past.bytes.Load(),
		Subscriptions: h.subs.count,
		Gaps:          h.gaps,
		Position:      MakeID(h.epoch, h.head.Load()),
		Following:     h.watch.isFollowing(now),
		Behind:        behind,
		Lag:           lag,
	}
}

// Close ends the Hub. Publish and Subscribe return [ErrClosed] from now on. Subscriptions
// return what is kept for them, then ErrClosed. Run returns. The error is always nil.
func (h *Hub) Close() error {
	h.mu.Lock()
	h.closed = true
	subs := h.subs.all()
	h.follower.stop()
	h.expiry.stop()
	h.watch.changed()
	h.mu.Unlock()
	for _, s := range subs {
		s.Finish()
	}
	return nil
}

package natsjournal

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/backoff"
)

// Tail reads through one ephemeral consumer at a time. It replaces a consumer that is
// lost, and ends with an error once the engine has been unreachable for ten seconds.
//
// After an ID of another epoch it yields a gap just before the oldest entry that is
// kept, then all that is kept. If Tails of this Journal have read entries of that epoch and they
// are still there, the gap is a [broadcast.EpochError] with the newest of them; if many are gone,
// with one that is a little older. After an ID that the stream has not reached it yields a
// gap at the newest entry and continues from there.
//
// When ctx has ended and this was the Journal's last Tail, it leaves in the engine what the
// stream had, for the next node that starts; see the package documentation.
func (j *Journal) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return func(yield func(broadcast.Message, error) bool) {
		t := &tail{journal: j, last: after, yield: yield, lastContact: time.Now()}
		j.countTail(+1)
		for {
			err := t.follow(ctx)
			switch {
			case errors.Is(err, errStopped), ctx.Err() != nil:
				if j.countTail(-1) == 0 && ctx.Err() != nil {
					j.leave(ctx)
				}
				if !errors.Is(err, errStopped) {
					yield(broadcast.Message{}, ctx.Err())
				}
				return
			case errors.Is(err, ErrUnusable), errors.Is(err, nats.ErrConnectionClosed), time.Since(t.lastContact) > maxOutage:
				j.countTail(-1)
				if errors.Is(err, nats.ErrConnectionClosed) {
					j.reportClosed(err)
				}
				yield(broadcast.Message{}, err)
				return
			}
			j.logger().Debug("natsjournal: a tail replaces its consumer", "after", t.last, "reason", err)
			if isSilence(err) {
				j.revive(ctx)
			}
			_ = backoff.Sleep(ctx, retryPause) // an ended ctx ends the next consumer
		}
	}
}

// countTail counts the Tails that run, and returns how many there are.
func (j *Journal) countTail(change int) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tails += change
	if j.tails > 0 {
		j.knowledge.retired = false
	}
	return j.tails
}

// isSilence reports whether an error says that the engine has not answered.
func isSilence(err error) bool {
	return errors.Is(err, errSilent) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)
}

// tail is a running Tail.
type tail struct {
	journal *Journal
	yield   func(broadcast.Message, error) bool

	last        broadcast.ID // the last one yielded
	lastContact time.Time    // when a consumer last sent something
	entered     bool         // a consumer of this tail has followed the stream
	settled     bool         // it has done so for longer than a node takes to write a witness
}

var (
	// errStopped says that the caller has stopped the iteration. Tail does not yield it.
	errStopped = errors.New("natsjournal: the iteration was stopped")

	errNewEpoch = errors.New("natsjournal: the stream has a new epoch")
)

// verifyInterval is how often a tail checks that the epoch has not changed, and that the
// stream is usable.
const verifyInterval = 5 * time.Second

// follow yields what one consumer delivers, until the consumer is lost.
func (t *tail) follow(ctx context.Context) error {
	s, err := t.journal.readStream(ctx)
	if err != nil {
		return err
	}
	start, gap := startOf(t.last, s)
	c, err := t.journal.consume(ctx, s, start.Seq())
	if err != nil {
		return err
	}
	defer c.close(ctx)
	// A consumer is deleted together with its stream. This one exists, so if the epoch
	// is still the same, it reads the stream of that epoch.
	if err := t.verify(ctx, s); err != nil {
		return err
	}
	// The witness goes once others can see this consumer, so that there always is one of both.
	// A node that closed at the same moment has deleted its witness itself if it has seen the
	// consumer.
	if !t.entered && !t.journal.Durable {
		if err := t.journal.deleteWitness(ctx, s); err != nil {
			return err
		}
	}
	t.entered = true
	if gap {
		if err := t.yieldLoss(ctx, s, start); err != nil {
			return err
		}
	}
	t.last = start
	return t.readFrom(ctx, c, s)
}

// yieldLoss yields that the tail goes on after start, which does not follow what it has yielded.
func (t *tail) yieldLoss(ctx context.Context, s streamState, start broadcast.ID) error {
	var loss error = &broadcast.GapError{ID: start}
	if t.last.Epoch() != s.epoch {
		survived, err := t.journal.survived(ctx, s, t.last.Epoch())
		if err != nil {
			return err
		}
		if !survived.IsZero() {
			loss = &broadcast.EpochError{Survived: survived}
		}
	}
	t.last = start
	if !t.yield(broadcast.Message{ID: start}, loss) {
		return errStopped
	}
	return nil
}

// readFrom yields what a consumer delivers.
func (t *tail) readFrom(ctx context.Context, c *consumer, s streamState) error {
	for verified := time.Now(); ; {
		d, err := c.next(ctx)
		if err == nil {
			t.lastContact = time.Now()
		}
		switch {
		case err != nil:
			return err
		case d.entry != nil && d.seq > s.newest && d.entry.Subject != s.subject:
			return errNewEpoch
		case t.lastContact.Sub(verified) > verifyInterval:
			if err := t.settle(ctx, s); err != nil {
				return err
			}
			verified = time.Now()
		}
		if !t.yieldDelivery(d) {
			return errStopped
		}
	}
}

// startOf returns the ID after which a tail continues, and whether that is a gap.
func startOf(after broadcast.ID, s streamState) (start broadcast.ID, gap bool) {
	floor := broadcast.MakeID(s.epoch, s.oldest-1)
	switch {
	case after.IsZero():
		return floor, false
	case after.Epoch() != s.epoch, after.Seq() < floor.Seq():
		return floor, true
	case after.Seq() > s.newest:
		return broadcast.MakeID(s.epoch, s.newest), true
	}
	return after, false
}

// verify returns an error if the stream is no longer in the epoch of s.
func (t *tail) verify(ctx context.Context, s streamState) error {
	now, err := t.journal.readStream(ctx)
	if err == nil && now.epoch != s.epoch {
		err = errNewEpoch
	}
	return err
}

// settle verifies the epoch. The first time it also deletes a witness that came late: of a node
// that closed when this tail began, and that was not seen to follow.
func (t *tail) settle(ctx context.Context, s streamState) error {
	if err := t.verify(ctx, s); err != nil || t.settled || t.journal.Durable {
		return err
	}
	t.settled = true
	return t.journal.deleteWitness(ctx, s)
}

// yieldDelivery yields what the engine sent, after a gap if entries before it are
// missing. It reports whether the caller wants more.
func (t *tail) yieldDelivery(d delivery) bool {
	switch {
	case d.seq <= t.last.Seq():
		return true // already yielded
	case d.entry == nil:
		return t.yieldGap(d.seq)
	case d.seq > t.last.Seq()+1 && !t.yieldGap(d.seq-1):
		return false
	}
	t.last = broadcast.MakeID(t.last.Epoch(), d.seq)
	t.journal.learnEntry(t.last.Epoch(), d.seq, d.storedAt)
	m := decode(d.entry)
	m.ID = t.last
	return t.yield(m, nil)
}

// yieldGap yields the loss of everything up to a sequence.
func (t *tail) yieldGap(seq uint64) bool {
	t.last = broadcast.MakeID(t.last.Epoch(), seq)
	return t.yield(broadcast.Message{ID: t.last}, &broadcast.GapError{ID: t.last})
}

package natsjournal

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Tail reads through one ephemeral consumer at a time. It goes on by itself when
// that is lost, and ends with an error once the engine has been away for ten
// seconds.
//
// Behind an ID of another epoch it yields a gap just before the oldest entry that
// is kept, then all that is kept. Behind an ID that the stream has not reached it
// yields a gap at the newest, and goes on from there.
func (j *Journal) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return func(yield func(broadcast.Message, error) bool) {
		t := &tail{journal: j, at: after, yield: yield, alive: time.Now()}
		for {
			err := t.follow(ctx)
			switch {
			case errors.Is(err, errStopped):
				return
			case ctx.Err() != nil:
				yield(broadcast.Message{}, ctx.Err())
				return
			case errors.Is(err, ErrUnusable), errors.Is(err, nats.ErrConnectionClosed), time.Since(t.alive) > patience:
				yield(broadcast.Message{}, err)
				return
			}
			j.logger().Debug("natsjournal: a tail lost its consumer, it makes another one", "at", t.at, "reason", err)
			pause(ctx)
		}
	}
}

// tail is where a running Tail is.
type tail struct {
	journal *Journal
	at      broadcast.ID // the last one that was yielded
	yield   func(broadcast.Message, error) bool
	alive   time.Time // when the engine was last there
}

var (
	errStopped = errors.New("natsjournal: the consumer of the tail stopped") // stays in here
	errMoved   = errors.New("natsjournal: the stream has another epoch")
)

// verify is how often a tail that has nothing to read asks whether the stream is
// still the same.
const verify = 5 * time.Second

func pause(ctx context.Context) {
	timer := time.NewTimer(again)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// follow yields what one consumer brings, until that is lost.
func (t *tail) follow(ctx context.Context) error {
	v, err := t.journal.look(ctx)
	if err != nil {
		return err
	}
	at, gap := place(t.at, v)
	c, err := t.journal.consume(ctx, v, at.Seq())
	if err != nil {
		return err
	}
	defer c.close(ctx)
	// A consumer goes with its stream: as this one was made before, it reads the
	// stream that is looked at now.
	if err := t.verify(ctx, v); err != nil {
		return err
	}
	defer func() { t.alive = time.Now() }()
	t.at = at
	if gap && !t.lose(at.Seq()) {
		return errStopped
	}
	for verified := time.Now(); ; {
		d, err := c.next(ctx)
		switch {
		case err != nil:
			return err
		case d.entry != nil && d.seq > v.newest && d.entry.Subject != v.subject:
			return errMoved
		case d.entry == nil && time.Since(verified) > verify:
			if err := t.verify(ctx, v); err != nil {
				return err
			}
			verified = time.Now()
		}
		if !t.take(d) {
			return errStopped
		}
	}
}

// place returns the ID behind which a tail goes on, and whether that is a gap.
func place(after broadcast.ID, v view) (at broadcast.ID, gap bool) {
	floor := broadcast.MakeID(v.epoch, v.oldest-1)
	switch {
	case after.IsZero():
		return floor, false
	case after.Epoch() != v.epoch, after.Seq() < floor.Seq():
		return floor, true
	case after.Seq() > v.newest:
		return broadcast.MakeID(v.epoch, v.newest), true
	}
	return after, false
}

// verify asks whether the stream still has the epoch that it had.
func (t *tail) verify(ctx context.Context, v view) error {
	now, err := t.journal.look(ctx)
	if err == nil && now.epoch != v.epoch {
		err = errMoved
	}
	return err
}

// take yields what the engine sent, what is missing before it first. It reports
// whether to go on.
func (t *tail) take(d delivery) bool {
	if d.entry == nil {
		return d.seq <= t.at.Seq() || t.lose(d.seq)
	}
	if d.seq <= t.at.Seq() {
		return true // again
	}
	if d.seq > t.at.Seq()+1 && !t.lose(d.seq-1) {
		return false
	}
	t.at = broadcast.MakeID(t.at.Epoch(), d.seq)
	t.journal.seen(t.at.Epoch(), d.seq, d.at)
	m := decode(d.entry)
	m.ID = t.at
	return t.yield(m, nil)
}

// lose yields that everything up to a sequence is lost.
func (t *tail) lose(seq uint64) bool {
	t.at = broadcast.MakeID(t.at.Epoch(), seq)
	return t.yield(broadcast.Message{ID: t.at}, &broadcast.GapError{ID: t.at})
}

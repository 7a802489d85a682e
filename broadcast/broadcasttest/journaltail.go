package broadcasttest

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Tail yields the entries after an ID that are kept, then new ones, until ctx ends or a fault
// ends it. It yields the reason last. After an ID of another epoch it yields a gap, then all
// that is kept.
func (j *Journal) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return func(yield func(broadcast.Message, error) bool) {
		e := j.open()
		e.mu.Lock()
		at := tail{journal: j, after: after, cuts: j.cuts, restarts: e.restarts}
		if e.compacts && after == broadcast.MakeID(e.epoch, 0) {
			at.carried, at.carriedTo = e.carried, e.floor()
			for epoch, seq := range e.survived {
				if seq > 0 {
					at.epochs = append(at.epochs, broadcast.MakeID(epoch, seq))
				}
			}
		}
		e.mu.Unlock()
		for {
			e.mu.Lock()
			m, err := at.next(e)
			changed := e.changed
			e.mu.Unlock()
			switch {
			case err == errNothing:
				at.wait(ctx, changed)
			case !yield(m, err) || err != nil && !goesOn(err):
				return
			}
			if err := ctx.Err(); err != nil {
				yield(broadcast.Message{}, err)
				return
			}
		}
	}
}

// goesOn reports whether a Tail goes on after an error.
func goesOn(err error) bool {
	return errors.Is(err, broadcast.ErrGap) || errors.Is(err, broadcast.ErrCompacted)
}

// tail is a running Tail.
type tail struct {
	journal  *Journal
	cuts     uint64 // of the node when the Tail began
	restarts uint64 // of the engine when the Tail began

	epochs    []broadcast.ID // what is still there of earlier epochs, and is to be said first
	carried   []carry        // what is left to be yielded of it
	carriedTo uint64         // up to which sequence that is all there is

	after broadcast.ID // the last one yielded
	due   time.Time    // when a delayed entry may be yielded; zero: no entry is delayed
}

// wait returns when there may be something to yield, or when ctx ends.
func (t *tail) wait(ctx context.Context, changed <-chan struct{}) {
	var due <-chan time.Time
	if !t.due.IsZero() {
		timer := time.NewTimer(time.Until(t.due))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-changed:
	case <-due:
	case <-ctx.Done():
	}
}

// next returns what to yield, or errNothing. The caller has locked the engine's mu.
func (t *tail) next(e *engine) (broadcast.Message, error) {
	j, floor := t.journal, broadcast.MakeID(e.epoch, e.floor())
	t.due = time.Time{}
	switch {
	case j.failure != nil:
		return broadcast.Message{}, j.failure
	case j.cuts != t.cuts:
		return broadcast.Message{}, j.cut
	case e.restarts != t.restarts:
		return broadcast.Message{}, errRestarted
	case j.held:
		return broadcast.Message{}, errNothing
	case t.after.IsZero():
		t.after = floor
	case t.after.Epoch() == e.epoch && len(t.epochs) > 0:
		before := t.epochs[0]
		t.epochs = t.epochs[1:]
		return broadcast.Message{ID: t.after}, &broadcast.EpochError{Survived: before}
	case t.after.Epoch() == e.epoch && t.after.Seq() < t.carriedTo:
		return t.nextCarried()
	case t.after.Epoch() != e.epoch && e.survived[t.after.Epoch()] > 0:
		before := broadcast.MakeID(t.after.Epoch(), e.survived[t.after.Epoch()])
		t.leave(floor)
		return broadcast.Message{ID: floor}, &broadcast.EpochError{Survived: before}
	case t.after.Epoch() != e.epoch, t.after.Seq() < floor.Seq():
		t.leave(floor)
		return broadcast.Message{ID: floor}, &broadcast.GapError{ID: floor}
	}
	if t.after.Seq() >= e.newest {
		return broadcast.Message{}, errNothing
	}
	next := e.entries[t.after.Seq()-floor.Seq()]
	if due := next.at.Add(j.delay); time.Now().Before(due) {
		t.due = due
		return broadcast.Message{}, errNothing
	}
	m := next.Message
	t.after = broadcast.MakeID(e.epoch, t.after.Seq()+1)
	if m.Topic == "" {
		m = broadcast.Message{}
	}
	m.ID = t.after
	m.Data = bytes.Clone(m.Data)
	return m, nil
}

// leave goes on after floor. What was kept when the Tail began belongs to what it leaves.
func (t *tail) leave(floor broadcast.ID) {
	t.after, t.carried, t.carriedTo, t.epochs = floor, nil, 0, nil
}

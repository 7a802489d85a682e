package broadcast

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"time"
)

// isJump reports whether a Tail goes on after an error, at another sequence.
func isJump(err error) bool { return errors.Is(err, ErrGap) || errors.Is(err, ErrCompacted) }

// warmUp decides from where this Hub follows the journal. It reads what a Compactor keeps; from
// another journal it will read the entries that are at most warm before the newest. Nobody has a
// place in the log before it returns. The caller holds no lock.
func (h *Hub) warmUp(ctx context.Context) (newest ID, from uint64, err error) {
	oldest, newest, err := h.bounds(ctx)
	if err != nil {
		return ID{}, 0, err
	}
	if c, ok := h.Journal.(Compactor); ok && newest.seq > 0 && c.Compacts() {
		err = h.guard("Journal.Tail", func() (err error) {
			from, err = h.readState(ctx, newest)
			return err
		})
		switch {
		case err == nil:
			return h.confirm(ctx, ID{newest.epoch, max(newest.seq, from)}, from)
		case !errors.Is(err, errStuckRead):
			return ID{}, 0, err
		}
		// The tail yields nothing, which watch has to find out.
		if oldest, newest, err = h.bounds(ctx); err != nil {
			return ID{}, 0, err
		}
	}
	from = min(max(oldest.seq, 1)-1, newest.seq) // oldest may be of a later moment, or an earlier epoch
	if newest.seq > warm {
		from = max(from, newest.seq-warm)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept.clear()
	h.kept.lose(from)
	return newest, from, nil
}

// confirm returns its arguments, or an error if the journal has another epoch by now.
func (h *Hub) confirm(ctx context.Context, newest ID, from uint64) (ID, uint64, error) {
	_, now, err := h.bounds(ctx)
	if err == nil && now.epoch != newest.epoch {
		err = errOtherEpoch
	}
	return newest, from, err
}

// readState reads the log from its beginning to what was its newest entry, as far as the journal has
// it and this Hub may keep it. It returns how far it has come.
func (h *Hub) readState(ctx context.Context, newest ID) (upTo uint64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stuck := time.AfterFunc(reopenAfter, func() { cancel(errStuckRead) })
	defer stuck.Stop()
	h.mu.Lock()
	h.follower.left = nil
	h.kept.clear()
	h.kept.lose(0)
	h.mu.Unlock()
	read := stateRead{at: ID{newest.epoch, 0}}
	for m, err := range h.Journal.Tail(ctx, read.at) {
		switch {
		case err != nil && !isJump(err):
			return 0, cmp.Or(context.Cause(ctx), err)
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case m.ID.epoch != newest.epoch:
			return 0, errOtherEpoch
		}
		stuck.Reset(reopenAfter)
		h.applyState(&read, m, err)
		if read.at.seq >= newest.seq {
			h.mu.Lock()
			h.kept.compact(read.floor)
			h.mu.Unlock()
			h.logDropped(&read.invalid)
			return read.at.seq, nil
		}
	}
	return 0, cmp.Or(context.Cause(ctx), errTailEnded)
}

// stateRead is how far readState has come.
type stateRead struct {
	at      ID
	floor   uint64 // the last entry that was left out
	invalid dropped
}

// applyState adds an entry to what this Hub keeps, or notes what is left out up to there.
func (h *Hub) applyState(read *stateRead, m Message, err error) {
	if err == nil && m.ID.seq <= read.at.seq {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if e, ok := errors.AsType[*EpochError](err); ok && m.ID.seq == 0 {
		h.follower.learn(e.Survived)
		return
	}
	compacted, events := errors.AsType[*CompactedError](err)
	lost := uint64(0)
	switch {
	case events:
		h.kept.loseEvents(compacted.Topics, m.ID.seq)
	case errors.Is(err, ErrCompacted):
	case err != nil:
		lost = m.ID.seq
	case m.ID.seq != read.at.seq+1:
		lost = m.ID.seq - 1
	}
	if lost > 0 {
		h.kept.lose(lost)
		read.floor = lost
	}
	if err != nil {
		read.floor = m.ID.seq
	} else if read.invalid.passes(&m, h.validate(&m)) {
		h.keepMessage(&m, time.Now())
	}
	read.at = m.ID
}

// learn notes up to where entries of an earlier epoch are still there.
func (f *follower) learn(survived ID) {
	f.left = append(f.left, leftEpoch{survived.epoch, survived.seq})
	f.left = f.left[max(0, len(f.left)-maxLeft):]
}

// keepMessage adds a message to what this Hub keeps. The caller holds mu.
func (h *Hub) keepMessage(m *Message, now time.Time) *topic {
	t := h.kept.topic(m.Topic)
	t.intern(m)
	if cap(m.Data) > len(m.Data)+len(m.Data)/4+messageCost {
		m.Data = bytes.Clone(m.Data) // else what is kept would be far more than what counts
	}
	h.kept.add(t, m, h.keepBytes())
	h.kept.touch(t, now)
	h.kept.forgetEmpty(t) // which has lost the message at once if that is larger than KeepBytes
	h.trim(now)
	return t
}

// loseEvents notes that topics have lost events up to seq; if nil, all may have.
func (k *retention) loseEvents(topics []string, seq uint64) {
	if topics == nil {
		for _, t := range k.topics {
			t.evicted = max(t.evicted, seq)
		}
		k.tombstones.raise(seq)
		return
	}
	for _, name := range topics {
		if t := k.topics[name]; t != nil {
			t.evicted = max(t.evicted, seq)
		} else {
			k.tombstones.add(name, seq)
		}
	}
}

// compact notes that up to seq only what a Compactor keeps is known of all topics.
func (k *retention) compact(seq uint64) {
	k.floor = seq
	for _, t := range k.topics {
		t.floor = max(t.floor, seq)
	}
}

package filejournal

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// fullEntries is how many of the newest entries are always yielded, also after sequence 0.
const fullEntries = 65_536

// part is a file of state that a Tail has opened, before it could be removed.
type part struct {
	*live
	in *scanner
}

// Compacts returns true: what state needs of messages that MaxBytes and MaxAge have removed is kept.
func (j *Journal) Compacts() bool { return true }

var _ broadcast.Compactor = (*Journal)(nil)

// pinFor is how long a Tail may take to read the beginning. Meanwhile no segment is removed: what
// it has read of older ones may have been replaced there.
const pinFor = 10 * time.Second

// pin keeps all segments until the Tail has come to what is the newest entry now.
func (t *tail) pin() {
	l := t.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pins == nil {
		l.pins = make(map[*tail]time.Time)
	}
	l.pins[t] = time.Now()
	t.pinned, t.pinnedTo = true, l.newest
}

func (t *tail) unpin() {
	if !t.pinned {
		return
	}
	t.pinned = false
	t.log.mu.Lock()
	defer t.log.mu.Unlock()
	delete(t.log.pins, t)
}

// settle waits for the tidier, which may be removing a segment although all have been pinned meanwhile.
func (l *log) settle(ctx context.Context) error {
	if err := l.turn.claim(ctx); err != nil {
		return err
	}
	defer l.turn.release()
	l.tidier.Wait()
	return nil
}

// keepAll keeps all segments from now on, until release is called.
func (j *Journal) keepAll(ctx context.Context) (release func(), err error) {
	l, err := j.open(ctx)
	if err != nil {
		return nil, err
	}
	keep := func(n int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.copies += n
	}
	keep(1)
	if err := l.settle(ctx); err != nil {
		keep(-1)
		return nil, err
	}
	return func() { keep(-1) }, nil
}

// isPinned reports whether a Tail or a Copy needs all segments. The caller holds mu.
func (l *log) isPinned() bool {
	if l.copies > 0 {
		return true
	}
	for _, since := range l.pins {
		if time.Since(since) < pinFor {
			return true
		}
	}
	return false
}

// lives returns the files of state that stand for the beginning of the log.
func (l *log) lives() (all []*live) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.removed != nil {
		all = append(all, l.removed)
	} else if l.segments[0].base > 1 {
		return nil // the beginning is lost
	}
	for i, s := range l.segments[:len(l.segments)-1] {
		if s.live == nil || l.segments[i+1].base-1+fullEntries > l.newest {
			break
		}
		all = append(all, s.live)
	}
	return all
}

// openParts opens the files of state that stand for the beginning of the log.
func (t *tail) openParts(ctx context.Context) error {
	t.pin()
	if err := t.log.settle(ctx); err != nil {
		return err
	}
	for {
		all := t.log.lives()
		for _, v := range all {
			in, err := v.open(t.log.fs, t.log.dir)
			if err != nil {
				t.leave()
				if now := t.log.lives(); errors.Is(err, os.ErrNotExist) && len(now) > 0 && now[0] != all[0] {
					break // it has been replaced meanwhile
				}
				return err
			}
			t.parts = append(t.parts, part{v, in})
		}
		if len(t.parts) == len(all) {
			return nil
		}
	}
}

// nextOfParts returns what follows in the files of state.
func (t *tail) nextOfParts() (broadcast.Message, error) {
	p := &t.parts[0]
	if p.lostTo > t.after {
		t.after = p.lostTo
		return t.gap()
	}
	for damaged := false; ; {
		at := p.in.offset
		b, seq, err := p.in.next()
		switch {
		case errors.Is(err, errDamaged):
			damaged = true
			if _, err := p.in.resync(); err != nil {
				return broadcast.Message{}, err
			}
			continue
		case errors.Is(err, io.EOF):
			return t.endPart(damaged)
		case err != nil:
			return broadcast.Message{}, err
		case seq <= t.after:
			continue
		}
		r := record{seq: seq}
		if r.parse(b, true) != nil {
			damaged = true
			continue
		}
		switch {
		case damaged:
			p.in.offset, t.after = at, seq-1
			return t.gap()
		case r.lost:
			t.after = seq
			lost := &broadcast.CompactedError{}
			if r.msg.Topic != "" {
				lost.Topics = []string{r.msg.Topic}
			}
			return broadcast.Message{ID: broadcast.MakeID(t.epoch, seq)}, lost
		case seq > t.after+1:
			p.in.offset, t.after = at, seq-1
			return broadcast.Message{ID: broadcast.MakeID(t.epoch, t.after)}, broadcast.ErrCompacted
		}
		t.after = seq
		r.msg.ID = broadcast.MakeID(t.epoch, seq)
		return r.msg, nil
	}
}

// endPart goes on to the next file of state, or to the log.
func (t *tail) endPart(damaged bool) (broadcast.Message, error) {
	to := t.parts[0].to
	t.parts[0].in.f.Close()
	t.parts = t.parts[1:]
	switch {
	case damaged:
		t.after = to
		return t.gap()
	case t.after < to:
		t.after = to
		return broadcast.Message{ID: broadcast.MakeID(t.epoch, to)}, broadcast.ErrCompacted
	}
	return broadcast.Message{}, errEnd
}

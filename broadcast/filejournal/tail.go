package filejournal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Tail yields what is kept after an ID, then what is appended, until ctx ends. What cannot be
// read any more is yielded as a gap.
func (j *Journal) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return func(yield func(broadcast.Message, error) bool) {
		l, err := j.open(ctx)
		if err != nil {
			yield(broadcast.Message{}, err)
			return
		}
		floor, _, epoch := l.bounds()
		t := &tail{log: l, epoch: epoch, after: after.Seq()}
		defer t.leave()
		defer t.unpin()
		past := l.survivors(epoch, after)
		switch {
		case after == broadcast.MakeID(epoch, 0):
			if err := t.openParts(ctx); err != nil {
				yield(broadcast.Message{}, fmt.Errorf("filejournal: reading the log: %w", err))
				return
			}
			for _, id := range past {
				if !yield(broadcast.Message{ID: after}, &broadcast.EpochError{Survived: id}) {
					return
				}
			}
		case after.IsZero():
			t.after = floor
		case after.Epoch() != epoch:
			t.after = floor
			m, err := t.gap()
			if len(past) > 0 {
				err = &broadcast.EpochError{Survived: past[0]}
			}
			if !yield(m, err) {
				return
			}
		}
		for ctx.Err() == nil {
			m, err := t.next(ctx)
			if err != nil && !errors.Is(err, broadcast.ErrGap) && !errors.Is(err, broadcast.ErrCompacted) {
				yield(broadcast.Message{}, err)
				return
			}
			if !yield(m, err) {
				return
			}
		}
		yield(broadcast.Message{}, context.Cause(ctx))
	}
}

// survivors returns the newest entries of earlier epochs that are still there: of the epoch of an ID,
// or, if that is of this epoch, of all.
func (l *log) survivors(epoch uint64, after broadcast.ID) (ids []broadcast.ID) {
	for _, p := range l.past {
		if p.survived > 0 && (after.Epoch() == epoch || after.Epoch() == p.epoch) {
			ids = append(ids, broadcast.MakeID(p.epoch, p.survived))
		}
	}
	return ids
}

// tail is a running Tail. It belongs to the goroutine that ranges over it.
type tail struct {
	log   *log
	epoch uint64
	after uint64 // the sequence of what was yielded last

	recent []broadcast.Message // what follows, if it is in memory

	parts    []part // the files of state that come first
	pinned   bool   // no segment is removed
	pinnedTo uint64 // until all up to here has been read

	// What is read from the disk.
	in  *scanner // nil if no segment is open
	end uint64   // the last sequence to read there
}

func (t *tail) gap() (broadcast.Message, error) {
	id := broadcast.MakeID(t.epoch, t.after)
	return broadcast.Message{ID: id}, &broadcast.GapError{ID: id}
}

// next waits for what follows, and returns it. A [*broadcast.GapError] says that it is lost.
func (t *tail) next(ctx context.Context) (broadcast.Message, error) {
	for {
		if t.pinned && t.after >= t.pinnedTo {
			t.unpin()
		}
		if len(t.parts) > 0 {
			if m, err := t.nextOfParts(); err != errEnd {
				return m, err
			}
			continue
		}
		if len(t.recent) > 0 {
			m := t.recent[0]
			t.recent, t.after = t.recent[1:], m.ID.Seq()
			return m, nil
		}
		if t.in != nil {
			if m, err := t.read(); err != errEnd {
				return m, err
			}
			t.leave()
		}
		if lost, err := t.seek(ctx); err != nil {
			return broadcast.Message{}, err
		} else if lost {
			return t.gap()
		}
	}
}

// seek waits until something follows, and finds where that is. It reports whether the log
// does not have it any more.
func (t *tail) seek(ctx context.Context) (lost bool, err error) {
	for {
		at := t.log.look(t.after)
		switch {
		case at.floor > t.after:
			t.after = at.floor
			return true, nil
		case at.recent != nil:
			t.recent = at.recent
			return false, nil
		case at.segment != nil:
			return false, t.enter(at)
		case at.err != nil:
			return false, at.err
		}
		select {
		case <-at.changed:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// enter opens the segment that has what follows.
func (t *tail) enter(at place) error {
	f, err := at.segment.open(t.log.fs, t.log.dir)
	if errors.Is(err, os.ErrNotExist) {
		if floor, _, _ := t.log.bounds(); floor > t.after {
			return nil // it has been removed meanwhile
		}
	}
	if err != nil {
		return fmt.Errorf("filejournal: reading the log: %w", err)
	}
	t.in, t.end = &scanner{f: f, offset: at.offset, limit: at.limit}, at.end
	if err := t.in.skip(t.after + 1); err != nil {
		return fmt.Errorf("filejournal: reading the log: %w", err)
	}
	return nil
}

// errEnd says that everything was read that an open segment had.
var errEnd = errors.New("filejournal: the end of a segment")

// read returns what follows in the open segment. What is missing there is a gap.
func (t *tail) read() (broadcast.Message, error) {
	for {
		at := t.in.offset
		b, seq, err := t.in.next()
		switch {
		case errors.Is(err, errDamaged):
			if _, err := t.in.resync(); err != nil {
				return broadcast.Message{}, fmt.Errorf("filejournal: reading the log: %w", err)
			}
			continue
		case errors.Is(err, io.EOF) && t.after < t.end:
			t.after = t.end
			return t.gap()
		case errors.Is(err, io.EOF):
			return broadcast.Message{}, errEnd
		case err != nil:
			return broadcast.Message{}, fmt.Errorf("filejournal: reading the log: %w", err)
		case seq <= t.after || seq > t.end:
			continue
		case seq > t.after+1:
			t.in.offset, t.after = at, seq-1
			return t.gap()
		}
		r, err := parseRecord(b)
		if err != nil { // its fields are not what this version writes
			r = record{}
		}
		t.after = seq
		r.msg.ID = broadcast.MakeID(t.epoch, seq)
		return r.msg, nil
	}
}

// leave closes the segment.
func (t *tail) leave() {
	if t.in != nil {
		t.in.f.Close()
		t.in = nil
	}
	for _, p := range t.parts {
		p.in.f.Close()
	}
	t.parts = nil
}

// place is where a log has what follows a sequence.
type place struct {
	floor   uint64              // nothing up to here is kept
	recent  []broadcast.Message // it is in memory
	segment *segment            // or here
	offset  int64               // where to begin in the segment
	limit   int64               // what may be read of it
	end     uint64              // the last sequence that may be read there
	changed <-chan struct{}     // or it has still to be appended: closed when something was
	err     error               // or nothing will be
}

// look returns where the log has what follows a sequence.
func (l *log) look(after uint64) place {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := place{floor: l.segments[0].base - 1, changed: l.changed}
	if at.floor > after {
		return at
	}
	if after >= l.newest {
		at.err = l.err
		return at
	}
	if at.recent = l.recent.after(after); at.recent != nil {
		return at
	}
	i := len(l.segments) - 1
	for l.segments[i].base > after+1 {
		i--
	}
	at.segment, at.limit, at.end = l.segments[i], l.segments[i].size, l.newest
	at.offset = at.segment.start(after + 1).offset
	if i+1 < len(l.segments) {
		at.end = l.segments[i+1].base - 1
	}
	return at
}

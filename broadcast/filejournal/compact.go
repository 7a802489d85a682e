package filejournal

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
)

// tidyPause is how long the log waits after it could not be tidied.
const tidyPause = time.Second

// tidy has another goroutine make what is missing of the files of state, and remove the oldest
// segments while there is too much, or while they are too old. The caller has the turn.
func (l *log) tidy() {
	l.mu.Lock()
	due := !l.tidying && (l.withoutState() != nil || l.isOver()) && time.Since(l.tidyFailed) > tidyPause
	l.tidying = l.tidying || due
	behind := l.tidying && l.maxBytes > 0 && l.bytes() > l.maxBytes+l.maxBytes/4
	l.mu.Unlock()
	switch {
	case due && l.inline:
		l.tidyUp()
	case due:
		l.tidier.Go(l.tidyUp)
	}
	if behind {
		l.tidier.Wait() // so that those that append are not faster than it for long
	}
}

func (l *log) tidyUp() {
	var err error
	for more := true; more && err == nil; {
		if err = l.makeStates(); err == nil {
			more, err = l.dropOldest()
		}
	}
	l.mu.Lock()
	l.tidying = false
	if err != nil {
		l.tidyFailed = time.Now()
	}
	ended := l.err != nil
	l.mu.Unlock()
	if err != nil && !ended {
		l.logger.Warn("filejournal: tidying failed, the log may become larger than it should, trying again", "dir", l.dir, "error", err)
	}
}

// withoutState returns the oldest segment that lacks its file of state, but for the last one. The
// caller holds mu.
func (l *log) withoutState() *segment {
	for _, s := range l.segments[:len(l.segments)-1] {
		if s.live == nil {
			return s
		}
	}
	return nil
}

// isOver reports whether the oldest segment is to be removed. The caller holds mu.
func (l *log) isOver() bool {
	return len(l.segments) > 1 && !l.isPinned() && (l.isTooMuch() || l.maxAge > 0 && l.clock.now()-l.segments[1].began > l.maxAge.Milliseconds())
}

// endOf returns the last sequence of a segment that is not the last. The caller holds mu.
func (l *log) endOf(s *segment) uint64 {
	for i := range l.segments {
		if l.segments[i] == s {
			return l.segments[i+1].base - 1
		}
	}
	return 0
}

// makeStates makes the files of state that are missing.
func (l *log) makeStates() error {
	for {
		l.mu.Lock()
		s := l.withoutState()
		if s == nil || l.err != nil {
			err := l.err
			l.mu.Unlock()
			return err
		}
		end := l.endOf(s)
		l.mu.Unlock()
		v, err := l.makeState(s, end)
		if err != nil {
			return err
		}
		l.mu.Lock()
		s.live = v
		l.mu.Unlock()
	}
}

// makeState makes the file of state of a segment that ends at a sequence.
func (l *log) makeState(s *segment, end uint64) (*live, error) {
	f, err := s.open(l.fs, l.dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	o := newOutline()
	if err := l.scanSegment(f, s, end, func(b []byte, r *record) error { o.note(r); return nil }, o.miss); err != nil {
		return nil, err
	}
	if n, _ := o.lost(); n > maxLost {
		o.fold()
	}
	v := live{name: segmentLiveName(s.base), from: s.base, to: end, lostTo: o.lostTo}
	return writeLive(l.fs, l.dir, v, 0, func(w *liveWriter) error {
		return l.scanSegment(f, s, end, func(b []byte, r *record) error {
			if r.seq <= o.lostTo {
				return nil
			}
			if o.needs(r) {
				return w.add(b, r.seq, false)
			}
			if topic, ok := o.loses(r); ok {
				return w.addLost(r.seq, topic, r.time)
			}
			return nil
		}, func(uint64) {})
	})
}

// scanSegment calls found for each record of a segment up to a sequence, without Data, and missed
// for what cannot be read.
func (l *log) scanSegment(f file, s *segment, end uint64, found func([]byte, *record) error, missed func(upTo uint64)) error {
	in, last := scanner{f: f, offset: int64(segmentHeader), limit: s.size}, s.base-1
	for {
		b, seq, err := in.next()
		switch {
		case errors.Is(err, io.EOF):
			if last < end {
				missed(end)
			}
			return nil
		case errors.Is(err, errDamaged):
			if _, err := in.resync(); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		case seq <= last || seq > end:
			continue
		case seq > last+1:
			missed(seq - 1)
		}
		r := record{seq: seq}
		if r.parse(b, false) != nil {
			r = record{seq: seq}
		}
		last = seq
		if err := found(b, &r); err != nil {
			return err
		}
	}
}

// scanLive calls found for each record of a file of state, without Data. Damage is an error.
func (l *log) scanLive(v *live, found func([]byte, *record) error) error {
	if v == nil {
		return nil
	}
	in, err := v.open(l.fs, l.dir)
	if err != nil {
		return err
	}
	defer in.f.Close()
	for {
		b, seq, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r := record{seq: seq}
		if err := r.parse(b, false); err != nil {
			return err
		}
		if err := found(b, &r); err != nil {
			return err
		}
	}
}

// dropOldest removes the oldest segment if there is too much, unless its file of state has to be made
// first: it may have been the last one until now. It reports whether there is more to do.
func (l *log) dropOldest() (more bool, err error) {
	l.mu.Lock()
	over, ready, err := l.isOver(), l.segments[0].live != nil, l.err
	l.mu.Unlock()
	if err != nil || !over {
		return false, err
	}
	if !ready {
		return true, nil
	}
	return true, l.drop()
}

// drop removes the oldest segment, which has its file of state. What state needs of it is on the disk before.
func (l *log) drop() error {
	l.mu.Lock()
	s, before := l.segments[0], l.removed
	l.mu.Unlock()
	v, err := l.merge(before, s.live)
	if errors.Is(err, errDamaged) {
		l.logger.Error("filejournal: a file of state is damaged: what it had is missing, and reported as such", "dir", l.dir)
		v, err = l.forget(s.live.to)
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.segments, l.removed = append([]*segment(nil), l.segments[1:]...), v
	l.mu.Unlock()
	names := []string{s.name, s.live.name}
	if before != nil {
		names = append(names, before.name)
	}
	for _, name := range names {
		if err := l.fs.Remove(filepath.Join(l.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			l.logger.Warn("filejournal: removing an old file failed: the next start removes it", "dir", l.dir, "error", err)
		}
	}
	return nil
}

// forget makes a file of state that has nothing.
func (l *log) forget(to uint64) (*live, error) {
	v := live{name: removedLiveName(to), from: 1, to: to, lostTo: to}
	return writeLive(l.fs, l.dir, v, 0, func(*liveWriter) error { return nil })
}

// merge makes the file of state of all removed segments: what that had before, if it is not nil, and
// what the next one has.
func (l *log) merge(before, next *live) (*live, error) {
	o := newOutline()
	if err := l.scanLive(next, func(_ []byte, r *record) error { o.note(r); return nil }); err != nil {
		return nil, err
	}
	v := live{name: removedLiveName(next.to), from: 1, to: next.to, lostTo: next.lostTo}
	if before == nil && next.from > 1 {
		v.lostTo = max(v.lostTo, next.from-1) // of a version that kept no state
	}
	size, lost := next.size, next.lost
	if next.lostTo > 0 {
		before = nil
	} else if before != nil {
		v.lostTo = max(v.lostTo, before.lostTo)
		if before.to+1 != next.from {
			before, v.lostTo = nil, next.from-1
		} else {
			size, lost = size+before.size, lost+before.lost
		}
	}
	m := merger{log: l, before: before, next: next, outline: o}
	if n, last := o.lost(); n > 0 && lost > maxLost {
		m.fold = last
	}
	skip := int64(0)
	if most := l.maxBytes / 2; l.maxBytes > 0 && size > most {
		counted := &liveWriter{}
		if err := m.write(counted); err != nil {
			return nil, err
		}
		skip = counted.size - most
	}
	return writeLive(l.fs, l.dir, v, skip, m.write)
}

// merger merges two files of state. What the second one replaces is left out.
type merger struct {
	log          *log
	before, next *live
	outline      *outline // of next
	fold         uint64   // if not 0, one record with this sequence stands for all that lack events
}

func (m *merger) write(w *liveWriter) error {
	if err := m.log.scanLive(m.before, func(b []byte, r *record) error { return m.old(w, b, r) }); err != nil {
		return err
	}
	return m.log.scanLive(m.next, func(b []byte, r *record) error {
		switch {
		case r.msg.Removed:
			return nil // and so is what it has replaced
		case r.lost && m.fold == r.seq:
			return w.addLost(r.seq, "", r.time)
		case r.lost && m.fold > 0:
			return nil
		}
		return w.add(b, r.seq, r.lost)
	})
}

// old adds a record of the first file if state still needs it.
func (m *merger) old(w *liveWriter, b []byte, r *record) error {
	if r.msg.Key != "" {
		if _, replaced := m.outline.values[placeOf(r)]; replaced {
			return nil
		}
		return w.add(b, r.seq, false)
	}
	t := m.outline.topics[r.msg.Topic]
	if t == nil {
		t = new(topicOutline)
	}
	switch isEnd := r.msg.End && !r.msg.First; {
	case t.first > 0, r.lost && (m.fold > 0 || t.lost > 0):
		return nil
	case isEnd && t.end > 0 && (m.fold > 0 || t.lost > 0):
		return nil
	case isEnd && t.end > 0:
		return w.addLost(r.seq, r.msg.Topic, r.time)
	}
	return w.add(b, r.seq, r.lost)
}

package filejournal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// segmentsAtLeast is into how many segments what is kept is divided at least, since it is
// removed in whole segments.
const segmentsAtLeast = 16

const (
	minSegment = 64 << 10
	maxSegment = 64 << 20
)

// openLog opens the log in a folder, and makes it if there is none. It finds out whether
// something is missing that was acknowledged: then the log has a new epoch.
func openLog(j *Journal, fs files) (l *log, err error) {
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(j.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	l = &log{
		dir: j.Dir, fs: fs, logger: j.logger(), lock: lock,
		maxBytes: j.maxBytes(), maxAge: j.maxAge(), syncEvery: j.SyncEvery,
		segmentBytes: maxSegment,
		changed:      make(chan struct{}),
		inline:       j.opening.inline,
	}
	if l.maxBytes > 0 {
		l.segmentBytes = min(max(l.maxBytes/segmentsAtLeast, minSegment), maxSegment)
	}
	defer func() {
		if err != nil {
			l.abandon()
		}
	}()
	// Not in the file that is locked, which Windows lets nobody read.
	if err := os.WriteFile(filepath.Join(l.dir, "pid"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return nil, err
	}
	if l.state, err = openState(fs, l.dir); err != nil {
		return nil, err
	}
	if err := l.recover(); err != nil {
		return nil, err
	}
	return l, nil
}

// abandon closes the files of a log that could not be opened.
func (l *log) abandon() {
	l.tidier.Wait() // it ends soon, since the log has
	if l.active != nil {
		l.active.Close()
	}
	if l.state != nil {
		l.state.Close()
	}
	l.lock.Close()
}

// recover finds the segments and the end of the last one, and decides on the epoch.
func (l *log) recover() error {
	if err := l.findSegments(); err != nil {
		return err
	}
	newestTime, err := l.recoverLast()
	if err != nil {
		return err
	}
	l.clock, l.checked = startClock(newestTime), time.Now()
	if len(l.segments) == 0 {
		base := l.newest + 1
		s := &segment{name: segmentName(base), base: base, began: l.clock.now(), size: int64(segmentHeader)}
		if l.active, err = createSegment(l.fs, l.dir, s); err != nil {
			return err
		}
		l.segments, l.last = []*segment{s}, s
	}
	l.newest = max(l.newest, l.segments[0].base-1)
	return l.beginEpoch()
}

// findSegments lists the segments, oldest first.
func (l *log) findSegments() error {
	entries, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		base, ok := parseSegmentName(e.Name())
		if !ok || base == 0 {
			continue
		}
		s := &segment{name: e.Name(), base: base}
		switch err := l.inspect(s); {
		case errors.Is(err, errDamaged) && s.size <= int64(segmentHeader):
			// It was cut off when it was made. Its name says how far the log was.
			l.newest = max(l.newest, base-1)
			if err := l.fs.Remove(filepath.Join(l.dir, s.name)); err != nil {
				return err
			}
			continue
		case errors.Is(err, errDamaged):
			l.logger.Error("filejournal: the header of a segment is damaged", "dir", l.dir, "error", err)
		case err != nil:
			return err
		}
		l.segments = append(l.segments, s)
	}
	slices.SortFunc(l.segments, func(a, b *segment) int { return cmp.Compare(a.base, b.base) })
	return l.findLives(entries)
}

// inspect sets size and began of a segment.
func (l *log) inspect(s *segment) error {
	f, err := s.open(l.fs, l.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s.size = info.Size()
	return s.readHeader(f)
}

// recoverLast reads the last segment, cuts off what is no whole record at its end, and opens
// it for writing. It returns the time of the newest record.
func (l *log) recoverLast() (newestTime int64, err error) {
	if len(l.segments) == 0 {
		return 0, nil
	}
	s := l.segments[len(l.segments)-1]
	l.last = s
	if l.active, err = l.fs.OpenFile(filepath.Join(l.dir, s.name), os.O_RDWR, 0); err != nil {
		return 0, err
	}
	last := s.base - 1
	newestTime = s.began
	in := scanner{f: l.active, offset: int64(segmentHeader), limit: s.size}
	end := in.offset
	for {
		at := in.offset
		b, seq, err := in.next()
		switch {
		case err == nil && seq > last:
			s.note(seq, at)
			last = seq
			_, newestTime, _ = checkRecord(b)
			end = in.offset
			continue
		case err == nil:
			continue // out of order: nobody will be yielded it
		case errors.Is(err, io.EOF):
		case errors.Is(err, errDamaged):
			more, err := in.resync()
			if err != nil {
				return 0, err
			}
			if more {
				l.logger.Error("filejournal: a part of a segment is damaged, streams get a gap", "dir", l.dir, "segment", s.name, "offset", at)
				continue
			}
		default:
			return 0, err
		}
		break
	}
	l.newest = max(l.newest, last)
	if end < s.size {
		l.logger.Info("filejournal: cut off the end of the log, which was not written to its end", "dir", l.dir, "bytes", s.size-end)
		if err := errors.Join(l.active.Truncate(end), l.active.Sync()); err != nil {
			return 0, err
		}
		s.size = end
	}
	return newestTime, nil
}

// beginEpoch goes on in the epoch that the log had, or in a new one if something is missing.
func (l *log) beginEpoch() error {
	info, err := l.state.Stat()
	if err != nil {
		return err
	}
	now := state{boot: l.fs.Boot(), inode: inodeOf(info), lazy: l.syncEvery != 0, seq: l.newest}
	before, ok := l.state.read()
	switch {
	case !ok && l.newest == 0:
		now.epoch = newEpoch()
	case !ok:
		now.epoch = newEpoch()
		l.logger.Warn("filejournal: the file that says how far the log was is missing: the log has a new epoch, and streams get a gap", "dir", l.dir)
	default:
		now.epoch, now.past = before.epoch, before.past
		if why := before.lost(l.newest, now.boot, now.inode); why != "" {
			now.epoch, now.past = newEpoch(), before.leave(min(l.newest, before.seq))
			l.logger.Warn("filejournal: "+why+": the log has a new epoch, and streams get a gap", "dir", l.dir, "had", before.seq, "has", l.newest)
		}
	}
	l.known, l.epoch, l.past = now, now.epoch, now.past
	if err := errors.Join(l.state.save(now), l.fs.SyncDir(l.dir)); err != nil {
		return fmt.Errorf("noting the epoch: %w", err)
	}
	return nil
}

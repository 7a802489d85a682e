package filejournal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// log is the open folder of a Journal. One goroutine at a time writes: the one that has the
// turn. Tails read what has been published to them in the fields that mu guards.
type log struct {
	// Set by openLog.
	dir          string
	fs           files
	logger       *slog.Logger
	lock         *os.File
	maxBytes     int64         // negative: no limit
	maxAge       time.Duration // negative: no limit
	syncEvery    time.Duration // 0: each append is synced
	segmentBytes int64         // a segment that has as many is followed by the next
	inline       bool          // the log is tidied by those that append: for tests
	turn         turn
	past         [maxPast]pastEpoch
	tidier       sync.WaitGroup // the goroutine that tidies the log

	// Owned by the goroutine that has the turn.
	last    *segment   // of segments
	active  file       // its file
	broken  bool       // nothing more is appended to it
	state   *stateFile // and
	known   state      // what it says
	clock   clock
	buf     []byte
	unsaved bool      // something was written that is not synced
	syncing bool      // a timer will sync it
	checked time.Time // when the folder was looked at last
	closed  bool      // nothing can be appended any more

	// mu is locked briefly, and never during I/O.
	mu         sync.Mutex
	epoch      uint64              // guarded by mu
	newest     uint64              // what may be read ends here; guarded by mu
	segments   []*segment          // never empty; guarded by mu
	removed    *live               // what is kept of the segments before those; nil: nothing was removed. Guarded by mu
	recent     recent              // guarded by mu
	pins       map[*tail]time.Time // Tails that read the beginning, and since when; guarded by mu
	copies     int                 // how many Copies read it; guarded by mu
	changed    chan struct{}
	tidying    bool      // a goroutine does that; guarded by mu
	tidyFailed time.Time // guarded by mu
	err        error     // why nothing will be appended any more; nil while that may be. Guarded by mu
}

var (
	errClosed = errors.New("filejournal: closed")

	// errRemoved ends a log whose files are not in its folder any more. Writing to them would
	// succeed, and be lost.
	errRemoved = errors.New("filejournal: the log was removed or replaced while it was open")
)

// append adds messages, and returns their IDs once they may be read.
func (l *log) append(ctx context.Context, ms []broadcast.Message) ([]broadcast.ID, error) {
	if err := l.turn.claim(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
	}
	defer l.turn.release()
	if l.closed {
		return nil, fmt.Errorf("%w: %w", broadcast.ErrNotPublished, l.err)
	}
	g := l.encode(ms)
	if len(g.records) == 0 {
		return g.ids, g.err()
	}
	if err := l.prepare(); err != nil {
		return nil, fmt.Errorf("%w: filejournal: preparing to write: %w", broadcast.ErrNotPublished, err)
	}
	at, err := l.write(g)
	if err != nil {
		return nil, err
	}
	l.publish(g, at)
	l.tidy()
	return g.ids, g.err()
}

// group is the messages of one append.
type group struct {
	records []record // of those that are added
	ends    []int    // where the record of each ends in log.buf
	ids     []broadcast.ID
	errs    broadcast.AppendErrors // nil if none was refused
}

func (g *group) err() error {
	if g.errs == nil {
		return nil
	}
	return g.errs
}

// encode fills buf with the records of messages.
func (l *log) encode(ms []broadcast.Message) *group {
	g := &group{ids: make([]broadcast.ID, len(ms)), records: make([]record, 0, len(ms)), ends: make([]int, 0, len(ms))}
	now := l.clock.now()
	seq := l.newest
	l.buf = l.buf[:0]
	for i, m := range ms {
		r := record{seq: seq + 1, time: now, msg: m}
		buf, err := appendRecord(l.buf, &r)
		if err != nil {
			if g.errs == nil {
				g.errs = make(broadcast.AppendErrors, len(ms))
			}
			g.errs[i] = fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
			continue
		}
		seq++
		g.ids[i] = broadcast.MakeID(l.epoch, seq)
		r.msg.ID = g.ids[i]
		l.buf = buf
		g.records, g.ends = append(g.records, r), append(g.ends, len(buf))
	}
	return g
}

// write writes buf and syncs it. If that fails, what was written is removed again.
func (l *log) write(g *group) (at int64, err error) {
	at = l.last.size
	_, err = l.active.WriteAt(l.buf, at)
	if err == nil && l.syncEvery == 0 {
		err = l.active.Sync()
	}
	if err == nil {
		l.known.seq = g.records[len(g.records)-1].seq
		if err := l.state.note(l.known); err != nil {
			// Only the next start would have used it, which may then not find out that the
			// log was cut.
			l.logger.Warn("filejournal: noting how far the log is failed", "dir", l.dir, "error", err)
		}
		l.saveLater()
		return at, nil
	}
	// After a failed sync nobody knows what the disk has of this file, even if the next one
	// succeeds. So the next append goes to a new file, and readers stop where that begins.
	l.broken = true
	if undone := errors.Join(l.active.Truncate(at), l.active.Sync()); undone != nil {
		return 0, fmt.Errorf("filejournal: writing: %w", err)
	}
	return 0, fmt.Errorf("%w: filejournal: writing: %w", broadcast.ErrNotPublished, err)
}

// publish lets Tails read what was written at an offset.
func (l *log) publish(g *group, at int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.last
	for i, r := range g.records {
		offset := at
		if i > 0 {
			offset += int64(g.ends[i-1])
		}
		s.note(r.seq, offset)
		l.recent.add(r.msg)
	}
	s.size = at + int64(len(l.buf))
	l.newest = g.records[len(g.records)-1].seq
	if cap(l.buf) > maxSpare {
		l.buf = nil
	}
	l.wake()
}

// maxSpare is how large a buffer is kept for the next append.
const maxSpare = 1 << 20

// wake lets waiting Tails look again. The caller holds mu.
func (l *log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// saveLater starts the timer that syncs what was written, unless that is done already.
func (l *log) saveLater() {
	if l.syncEvery == 0 {
		return
	}
	l.unsaved = true
	if l.syncEvery > 0 && !l.syncing {
		l.syncing = true
		time.AfterFunc(l.syncEvery, l.save)
	}
}

// save syncs what was written.
func (l *log) save() {
	l.turn.claim(context.Background())
	defer l.turn.release()
	l.syncing = false
	if l.closed || !l.unsaved {
		return
	}
	l.unsaved = false
	if err := l.active.Sync(); err != nil {
		l.broken = true
		l.logger.Error("filejournal: syncing failed: what was written last may be lost if the machine goes down", "dir", l.dir, "error", err)
	}
}

// prepare makes sure that the last segment can be written.
func (l *log) prepare() error {
	if err := l.checkFolder(); err != nil {
		return err
	}
	s := l.last
	full := s.size > int64(segmentHeader) && (s.size+int64(len(l.buf)) > l.segmentBytes || l.isOld(s))
	if !full && !l.broken {
		return nil
	}
	return l.roll()
}

// isOld reports whether a segment has to end, so that it can be removed when it is too old.
func (l *log) isOld(s *segment) bool {
	return l.maxAge > 0 && l.clock.now()-s.began > (l.maxAge/segmentsAtLeast).Milliseconds()
}

// roll begins the next segment.
func (l *log) roll() error {
	if l.unsaved {
		if err := l.active.Sync(); err != nil {
			return err
		}
		l.unsaved = false
	}
	s := &segment{name: segmentName(l.newest + 1), base: l.newest + 1, began: l.clock.now(), size: int64(segmentHeader)}
	f, err := createSegment(l.fs, l.dir, s)
	if err != nil {
		l.broken = true // its file may be there: what is appended next has to go into it
		return err
	}
	if err := l.active.Close(); err != nil {
		l.logger.Warn("filejournal: closing a segment failed", "dir", l.dir, "error", err)
	}
	before := l.last
	l.active, l.last, l.broken = f, s, false
	l.mu.Lock()
	defer l.mu.Unlock()
	if before.base == s.base {
		// Nothing was ever appended to the one before, whose file has been made anew.
		l.segments[len(l.segments)-1] = s
		return nil
	}
	l.segments = append(l.segments, s)
	return nil
}

// createSegment makes the file of a segment, durably.
func createSegment(fs files, dir string, s *segment) (f file, err error) {
	path := filepath.Join(dir, s.name)
	if f, err = fs.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(s.header(), 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fs.SyncDir(dir)
	}
	if err != nil {
		f.Close()
		return nil, err // the file stays: the next attempt, or the next start, makes it anew
	}
	return f, nil
}

// isTooMuch reports whether the log has more than maxBytes. The caller holds mu.
func (l *log) isTooMuch() bool { return l.maxBytes > 0 && l.bytes() > l.maxBytes }

// bytes returns how much the log has on the disk. The caller holds mu.
func (l *log) bytes() (n int64) {
	for _, s := range l.segments {
		n += s.size
		if s.live != nil {
			n += s.live.size
		}
	}
	if l.removed != nil {
		n += l.removed.size
	}
	return n
}

// checkEvery is how often the log looks whether its folder is still there.
const checkEvery = time.Second

// checkFolder ends the log if the file that is written is not in the folder any more.
func (l *log) checkFolder() error {
	if time.Since(l.checked) < checkEvery {
		return nil
	}
	mine, err := l.active.Stat()
	if err != nil {
		return err
	}
	there, err := l.fs.Stat(filepath.Join(l.dir, l.last.name))
	switch {
	case err == nil && os.SameFile(mine, there):
		l.checked = time.Now()
		return nil
	case err == nil || errors.Is(err, os.ErrNotExist):
		l.end(errRemoved)
		l.abandon()
		return errRemoved
	}
	return err
}

// end lets nothing be appended any more, because of err.
func (l *log) end(err error) {
	l.closed = true
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	l.wake()
}

// hasEnded reports whether nothing can be appended any more.
func (l *log) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
}

// check is checkFolder for a caller that does not have the turn.
func (l *log) check(ctx context.Context) error {
	if err := l.turn.claim(ctx); err != nil {
		return err
	}
	defer l.turn.release()
	if l.closed {
		return l.err
	}
	return l.checkFolder()
}

// bounds returns the sequence before the oldest entry, the newest, and the epoch.
func (l *log) bounds() (floor, newest, epoch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segments[0].base - 1, l.newest, l.epoch
}

// close syncs everything, and notes that nothing is missing.
func (l *log) close() error {
	l.turn.claim(context.Background())
	defer l.turn.release()
	if l.closed {
		return nil
	}
	l.end(errClosed)
	l.tidier.Wait()
	err := l.active.Sync()
	if err == nil {
		l.known.clean = true
		err = l.state.save(l.known)
	}
	return errors.Join(err, l.active.Close(), l.state.Close(), l.lock.Close())
}

// clock gives the times of records, which never go back and do not follow a clock that is
// set while the process runs.
type clock struct {
	began time.Time // monotonic
	base  int64     // milliseconds since 1970 at began
}

// startClock returns a clock that goes on after the newest record.
func startClock(newest int64) clock {
	now := time.Now()
	return clock{began: now, base: max(now.UnixMilli(), newest)}
}

func (c *clock) now() int64 { return c.base + time.Since(c.began).Milliseconds() }

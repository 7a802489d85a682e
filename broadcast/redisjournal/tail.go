package redisjournal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
)

const (
	// lookInterval is how often a tail looks whether the stream and Redis are still the same.
	lookInterval = time.Second

	// How many entries are read at once: more and more while a tail is behind, unless they
	// are large.
	fewEntries   = 16
	firstEntries = 128
	manyEntries  = 4096
	manyBytes    = 4 << 20

	// mostScripted is how many of them a script reads, for which Redis converts each twice.
	mostScripted = 1024
)

// Tail reads over a connection of its own, and ends with an error when Redis is unreachable,
// or has not answered for a second more than the client's ReadTimeout (three seconds if that
// is off). It also ends when Client reaches another Redis than the one that it reads from, as
// after a switch of master by Sentinel. Where nothing is appended, it detects within a second
// that the stream was trimmed, deleted, created again or replaced.
//
// After an ID of another epoch it yields a gap just before the oldest entry that is kept,
// then all that is kept. If that was the epoch before, the gap is a [broadcast.EpochError] that
// says up to where its entries are still there. After an ID that the stream has not reached it yields nothing
// until the stream has passed that ID.
func (j *Journal) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return func(yield func(broadcast.Message, error) bool) {
		t := &tail{journal: j, last: after, yield: yield, count: firstEntries, nudged: make(chan struct{}, 1)}
		err := t.run(ctx)
		switch {
		case errors.Is(err, errStopped):
		case ctx.Err() != nil:
			yield(broadcast.Message{}, fmt.Errorf("redisjournal: %w", ctx.Err()))
		case t.moved.Load():
			yield(broadcast.Message{}, errOtherEngine)
		default:
			yield(broadcast.Message{}, err)
		}
	}
}

// tail is a running Tail.
//
// Once a second it looks: a script verifies the epoch, and reads what follows. In between it
// only reads, with XREAD, as long as each entry continues the one before by its link.
type tail struct {
	// Set before it reads.
	journal *Journal
	client  *redis.Client // of one connection
	runID   string        // of the Redis that the connection leads to
	yield   func(broadcast.Message, error) bool

	// Owned by the goroutine that reads.
	parser parser
	last   broadcast.ID // the last one yielded
	mark   mark         // of that entry
	newest uint64       // the newest sequence at the last look
	looked time.Time    // when that was
	count  int          // how many entries to read at once

	// Of the goroutine that watches.
	nudged chan struct{} // has a token if it is to look at once
	moved  atomic.Bool   // it has closed the client
}

// errStopped says that the caller has stopped the iteration. Tail does not yield it.
var errStopped = errors.New("redisjournal: the iteration was stopped")

// run yields entries until something fails or the caller stops.
func (t *tail) run(ctx context.Context) error {
	if err := t.journal.check(ctx); err != nil {
		return err
	}
	client, err := t.journal.connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	defer context.AfterFunc(ctx, func() { client.Close() })()
	t.client = client
	for {
		s, err := t.look(ctx)
		if err != nil {
			return err
		}
		if t.runID == "" {
			t.runID = s.runID
			defer t.startWatching(ctx)()
		}
		if err := t.yieldState(ctx, s); err != nil {
			return err
		}
		if t.mark.tag != "" || t.last.Seq() >= s.newest.Seq() {
			if err := t.follow(ctx); err != nil {
				return err
			}
		}
	}
}

// look verifies the epoch and reads what follows the last entry.
func (t *tail) look(ctx context.Context) (streamState, error) {
	t.looked = time.Now()
	return t.journal.readStream(ctx, t.client, t.last, min(t.count, mostScripted))
}

// yieldState yields what a look has read, with a gap where something is missing.
func (t *tail) yieldState(ctx context.Context, s streamState) error {
	t.newest = s.newest.Seq()
	switch {
	case t.last.IsZero():
		t.last, t.mark = s.floor, mark{}
	case t.last.Epoch() != s.newest.Epoch():
		// The entries were read after the sequence of another epoch: they are read again.
		s.entries = nil
		if !t.yieldEpoch(s) {
			return errStopped
		}
	case len(s.entries) == 0 && t.last.Seq() < s.newest.Seq():
		if !t.yieldGap(s.newest) {
			return errStopped
		}
	}
	if err := t.yieldEntries(ctx, s.entries); err != nil {
		return err
	}
	if t.last == s.newest {
		t.mark = s.link.mark(t.mark)
	}
	t.adapt(len(s.entries), dataSize(s.entries))
	return nil
}

// follow reads what is appended, until it is time to look again, or an entry does not
// continue the one before.
func (t *tail) follow(ctx context.Context) error {
	for {
		wait := lookInterval - time.Since(t.looked)
		if wait <= 0 {
			return nil
		}
		count := t.count
		if t.mark.tag == "" {
			count = 1 // no entry can be known to continue; the next look reads it
		}
		entries, size, err := t.xread(ctx, t.last, count, wait)
		if err != nil {
			return err
		}
		n := t.linked(entries)
		if err := t.yieldEntries(ctx, entries[:n]); err != nil || n == 0 || n < len(entries) {
			return err
		}
		t.adapt(n, size)
	}
}

// linked returns how many of the entries continue each other and the last one. What was there
// at the last look may be of earlier epochs; what has come since must be of the epoch that
// the stream had then.
func (t *tail) linked(entries []entry) (n int) {
	seq, mark := t.last.Seq(), t.mark
	for _, e := range entries {
		if seq++; e.ID.Seq() != seq || !e.link.continues(mark, t.last.Epoch(), seq <= t.newest) {
			return n
		}
		mark = e.link.mark(mark)
		n++
	}
	return n
}

// yieldEntries yields entries, with a gap where something is missing.
func (t *tail) yieldEntries(ctx context.Context, entries []entry) error {
	if len(entries) > 0 {
		newest := entries[len(entries)-1]
		t.journal.learnEntry(newest.ID.Epoch(), newest.ID.Seq(), newest.link.tag)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.ID.Seq() != t.last.Seq()+1 && !t.yieldGap(previous(e.ID)) {
			return errStopped
		}
		t.last, t.mark = e.ID, e.link.mark(t.mark)
		if !t.yield(e.Message, nil) {
			return errStopped
		}
	}
	return nil
}

// yieldGap yields the loss of everything up to an ID.
func (t *tail) yieldGap(id broadcast.ID) bool {
	t.last, t.mark = id, mark{}
	return t.yield(broadcast.Message{ID: id}, &broadcast.GapError{ID: id})
}

// yieldEpoch yields a new epoch, and what has survived in it if that is known.
func (t *tail) yieldEpoch(s streamState) bool {
	if s.survived.IsZero() {
		return t.yieldGap(s.floor)
	}
	t.last, t.mark = s.floor, mark{}
	return t.yield(broadcast.Message{ID: s.floor}, errors.Join(
		&broadcast.EpochError{Survived: s.survived}, &broadcast.GapError{ID: s.floor}))
}

// adapt changes how many entries are read at once, after n of this size have been read.
func (t *tail) adapt(n, size int) {
	switch {
	case size > manyBytes:
		t.count = max(t.count/2, fewEntries)
	case n >= min(t.count, mostScripted) && size < manyBytes/4:
		t.count = min(2*t.count, manyEntries)
	}
}

func dataSize(entries []entry) (size int) {
	for i := range entries {
		size += len(entries[i].Data)
	}
	return size
}

package broadcasttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Journal is a [broadcast.Journal] in this process's memory, whose faults a test
// decides on. The zero Journal works, and starts no goroutine. In a bubble of
// testing/synctest the Tails that wait are durably blocked. A Journal must not be
// copied after its first use.
//
// A Journal is one server's connection to an engine; [Journal.Node] makes another
// server's. Trim, LoseTail, Recreate and Restart happen to the engine, and so to
// all of its nodes. Fail, Hold and Delay happen to one node.
//
// Append checks nothing. A message with an empty Topic becomes an entry that is
// no message, of which Tail yields the ID alone; a message that no Hub would have
// published (a Topic with a line break, a reserved Type) is yielded as it is.
type Journal struct {
	once   sync.Once
	engine *engine

	// These belong to engine.mu.
	failure error // what every call returns
	held    bool  // Tails yield nothing
	delay   time.Duration
	cuts    uint64 // how often the running Tails were ended,
	cut     error  // and why they were the last time
}

// engine is the log that the nodes share.
type engine struct {
	mu       sync.Mutex // held for moments only: who waits does so on changed
	changed  chan struct{}
	epoch    uint64
	entries  []entry // what is kept: the last of them is the newest
	newest   uint64  // the sequence of the newest entry, kept or not
	restarts uint64
}

type entry struct {
	broadcast.Message
	at time.Time // when it was appended
}

var (
	errRestarted = errors.New("broadcasttest: the journal was restarted")
	errNothing   = errors.New("broadcasttest: nothing to yield yet") // stays in here
)

// open returns the engine, made at the first use.
func (j *Journal) open() *engine {
	j.once.Do(func() {
		if j.engine == nil {
			j.engine = &engine{changed: make(chan struct{}), epoch: newEpoch()}
		}
	})
	return j.engine
}

// newEpoch draws an epoch; 0 and 1 are reserved.
func newEpoch() uint64 {
	for {
		if epoch := rand.Uint64(); epoch > 1 {
			return epoch
		}
	}
}

// change does something to the engine, or to a node of it, and lets the running
// Tails look at it.
func (j *Journal) change(what func(*engine)) {
	e := j.open()
	e.mu.Lock()
	defer e.mu.Unlock()
	what(e)
	close(e.changed)
	e.changed = make(chan struct{})
}

// floor is the sequence just before the oldest kept entry. The caller holds mu.
func (e *engine) floor() uint64 { return e.newest - uint64(len(e.entries)) }

// Node returns another server's connection to the same engine. It has no faults
// of its own yet.
func (j *Journal) Node() *Journal { return &Journal{engine: j.open()} }

// Append adds messages. Where it has an error, nothing was added.
func (j *Journal) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
	}
	var ids []broadcast.ID
	var err error
	j.change(func(e *engine) {
		if err = j.failure; err != nil {
			return
		}
		for _, m := range ms {
			e.newest++
			m.Data = bytes.Clone(m.Data) // an engine has its own copy
			e.entries = append(e.entries, entry{m, time.Now()})
			ids = append(ids, broadcast.MakeID(e.epoch, e.newest))
		}
	})
	return ids, err
}

// Bounds returns the place of the oldest entry that is kept and that of the
// newest there ever was. Where nothing is kept, oldest is one behind newest.
func (j *Journal) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	if err := ctx.Err(); err != nil {
		return oldest, newest, err
	}
	e := j.open()
	e.mu.Lock()
	defer e.mu.Unlock()
	if j.failure != nil {
		return oldest, newest, j.failure
	}
	return broadcast.MakeID(e.epoch, e.floor()+1), broadcast.MakeID(e.epoch, e.newest), nil
}

// Tail yields what is kept behind after, then what comes, until ctx ends or a
// fault ends it; the reason is yielded last. Behind an ID of another epoch it
// yields a gap, then all that is kept.
func (j *Journal) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return func(yield func(broadcast.Message, error) bool) {
		e := j.open()
		e.mu.Lock()
		at := tail{journal: j, after: after, cuts: j.cuts, restarts: e.restarts}
		e.mu.Unlock()
		for {
			e.mu.Lock()
			m, err := at.next(e)
			changed := e.changed
			e.mu.Unlock()
			switch {
			case err == errNothing:
				at.wait(ctx, changed)
			case !yield(m, err) || err != nil && !errors.Is(err, broadcast.ErrGap):
				return
			}
			if err := ctx.Err(); err != nil {
				yield(broadcast.Message{}, err)
				return
			}
		}
	}
}

// tail is where a running Tail is.
type tail struct {
	journal        *Journal
	after          broadcast.ID
	cuts, restarts uint64    // when it began
	due            time.Time // when there is something to yield; zero: not known
}

// wait waits until there may be something to yield.
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

// next returns what to yield, or errNothing. The caller holds the engine's mu.
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
	case t.after.Epoch() != e.epoch, t.after.Seq() < floor.Seq():
		t.after = floor
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

// Trim lets the n oldest entries go, as an engine's own limits would; all that
// are kept, if they are fewer. A Tail that has not yielded them yet yields a
// gap.
func (j *Journal) Trim(n int) {
	mustNotBeNegative(n)
	j.change(func(e *engine) { e.entries = slices.Clone(e.entries[min(n, len(e.entries)):]) })
}

// Fail lets Append, Bounds and Tail of this node return err, and ends its
// running Tails with it, until Fail(nil). An Append that returns err has added
// nothing; it is up to err whether the caller can know (it does if err wraps
// [broadcast.ErrNotPublished]).
func (j *Journal) Fail(err error) {
	j.change(func(*engine) {
		j.failure = err
		if err != nil {
			j.cuts++
			j.cut = err
		}
	})
}

// Hold holds this node's Tails back: they yield nothing, no gap and no new epoch
// either, until [Journal.Release]. Append and Bounds go on, and a Tail still ends
// with its ctx, with Fail and with Restart.
func (j *Journal) Hold() { j.change(func(*engine) { j.held = true }) }

// Delay lets entries reach this node's Tails only d after they were appended, as
// over a slow network. Append and Bounds do not wait.
func (j *Journal) Delay(d time.Duration) { j.change(func(*engine) { j.delay = d }) }

// Release ends a Hold.
func (j *Journal) Release() { j.change(func(*engine) { j.held = false }) }

// LoseTail lets the engine forget its n newest entries, as one does that crashed
// before it had written them. What is left goes over into a new epoch under its
// old sequences, so that no ID is given twice; running Tails yield the new epoch
// as a gap, then all that is left.
func (j *Journal) LoseTail(n int) {
	mustNotBeNegative(n)
	j.change(func(e *engine) {
		e.entries = slices.Clone(e.entries[:max(0, len(e.entries)-n)])
		e.newest -= min(uint64(n), e.newest)
		e.epoch = newEpoch()
	})
}

// Recreate makes the engine anew: empty, with a new epoch, which running Tails
// yield as a gap.
func (j *Journal) Recreate() {
	j.change(func(e *engine) { e.entries, e.newest, e.epoch = nil, 0, newEpoch() })
}

// Restart cuts the Tails of all nodes with an error. Contents and epoch stay.
func (j *Journal) Restart() { j.change(func(e *engine) { e.restarts++ }) }

func mustNotBeNegative(n int) {
	if n < 0 {
		panic(fmt.Sprintf("broadcasttest: a count of %d entries", n))
	}
}

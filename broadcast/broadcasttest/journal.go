package broadcasttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Journal is a [broadcast.Journal] in memory, with faults that a test chooses. The zero
// Journal is ready to use, keeps all entries and starts no goroutine. In a bubble of
// testing/synctest a Tail that waits is durably blocked. A Journal must not be copied
// after its first use; its methods may be called by several goroutines.
//
// A Journal is the connection of one server to an engine; [Journal.Node] returns that of
// another server. Trim, LoseTail, Recreate and Restart act on the engine, and so on all
// nodes. Fail, Refuse, Hold, Release and Delay act on one node.
//
// Append does not validate messages. A message with an empty Topic becomes an entry that
// is not a message: Tail yields its ID alone. A message that no Hub would publish, for
// example with a line break in its Topic or with a reserved Type, is yielded as it is.
type Journal struct {
	once   sync.Once // sets engine
	engine *engine

	// The faults of this node, guarded by engine.mu.
	failure error                         // if not nil, every call returns it
	refuse  func(broadcast.Message) error // of Append; nil: none is refused
	held    bool                          // Tails yield nothing
	delay   time.Duration                 // after which an entry reaches the Tails
	cuts    uint64                        // how often Fail has ended the running Tails
	cut     error                         // why it did so the last time
}

// engine is the log that the nodes share. Its fields are guarded by mu, which is never held
// while a Tail waits or yields.
type engine struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced with every change
	epoch   uint64
	entries []entry // those that are kept
	newest  uint64  // the sequence of the newest entry, kept or not

	compacts bool    // see Journal.Compact
	carried  []carry // what is kept of the entries before those; their sequences rise

	// survived says up to which sequence entries of earlier epochs are still there.
	survived map[uint64]uint64
	restarts uint64
}

type entry struct {
	broadcast.Message
	at time.Time // when it was appended
}

var (
	errRestarted = errors.New("broadcasttest: the journal was restarted")

	// errNothing says that there is nothing to yield yet. No Tail yields it.
	errNothing = errors.New("broadcasttest: nothing to yield")
)

// open returns the engine, and creates it at the first use.
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

// change changes the engine, or a node of it, and wakes the running Tails. f runs with mu
// locked.
func (j *Journal) change(f func(*engine)) {
	e := j.open()
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e)
	close(e.changed)
	e.changed = make(chan struct{})
}

// enter begins a new epoch, in which entries of the one before are still there up to a sequence.
// The caller has locked mu.
func (e *engine) enter(survived uint64) {
	if e.survived == nil {
		e.survived = make(map[uint64]uint64)
	}
	e.survived[e.epoch] = survived
	for epoch, seq := range e.survived {
		e.survived[epoch] = min(seq, survived)
	}
	e.epoch = newEpoch()
}

// floor returns the sequence just before the oldest kept entry. The caller has locked mu.
func (e *engine) floor() uint64 { return e.newest - uint64(len(e.entries)) }

// Node returns the connection of another server to the same engine. It has none of the
// faults of this node.
func (j *Journal) Node() *Journal { return &Journal{engine: j.open()} }

// Append adds messages. If it returns an error, nothing was added, unless the error is
// [broadcast.AppendErrors], see [Journal.Refuse].
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
		ids, err = e.append(ms, j.refuse)
	})
	return ids, err
}

// append adds the messages that are not refused. The caller has locked mu.
func (e *engine) append(ms []broadcast.Message, refuse func(broadcast.Message) error) ([]broadcast.ID, error) {
	ids, errs, any := make([]broadcast.ID, len(ms)), make(broadcast.AppendErrors, len(ms)), false
	for i, m := range ms {
		if refuse != nil {
			if err := refuse(m); err != nil {
				errs[i], any = fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err), true
				continue
			}
		}
		e.newest++
		m.Data = bytes.Clone(m.Data) // as an engine outside the process has its own copy
		e.entries = append(e.entries, entry{m, time.Now()})
		ids[i] = broadcast.MakeID(e.epoch, e.newest)
	}
	if any {
		return ids, errs
	}
	return ids, nil
}

// Bounds returns the IDs of the oldest entry that is kept and of the newest that there ever
// was. If none is kept, oldest is the ID after newest.
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

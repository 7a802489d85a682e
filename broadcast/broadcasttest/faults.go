package broadcasttest

import (
	"fmt"
	"slices"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Trim removes the n oldest entries, or all of them if there are fewer, as the limits of an
// engine would. A Tail that has not yielded them yet yields a gap. Trim panics if n is
// negative.
func (j *Journal) Trim(n int) {
	mustNotBeNegative(n)
	j.change(func(e *engine) {
		e.entries = slices.Clone(e.entries[min(n, len(e.entries)):])
		e.loseCarried()
	})
}

// loseCarried lets a gap stand for all that comes before the kept entries. The caller has locked mu.
func (e *engine) loseCarried() {
	e.carried = nil
	if e.floor() > 0 {
		e.carried = []carry{{seq: e.floor(), err: broadcast.ErrGap}}
	}
}

// LoseTail removes the n newest entries, or all of them if there are fewer, as a crash of an
// engine would that has not written them. The entries that are left keep their sequences in a
// new epoch, so that no ID is given twice. Running Tails yield the new epoch as a gap, a
// [broadcast.EpochError] that says how much is left, then all of that. Entries that Trim or Compact
// has removed count as well; once one of these is among the n, nothing of what Compact kept is left.
// LoseTail panics if n is negative.
func (j *Journal) LoseTail(n int) {
	mustNotBeNegative(n)
	j.change(func(e *engine) {
		kept := len(e.entries) - n
		e.entries = slices.Clone(e.entries[:max(0, kept)])
		e.newest -= min(uint64(n), e.newest)
		if kept < 0 {
			e.loseCarried() // what was left out may be needed again, without the newer ones that stood for it
		}
		e.enter(e.newest)
	})
}

// Recreate empties the engine and gives it a new epoch, which running Tails yield as a gap.
func (j *Journal) Recreate() {
	j.change(func(e *engine) {
		e.entries, e.newest, e.carried = nil, 0, nil
		e.enter(0)
	})
}

// Restart ends the running Tails of all nodes with an error. Entries and epoch stay.
func (j *Journal) Restart() { j.change(func(e *engine) { e.restarts++ }) }

// Fail makes Append, Bounds and Tail of this node return err, and ends its running Tails with
// err, until Fail(nil) is called. An Append that returns err has added nothing; to tell the
// caller so, let err wrap [broadcast.ErrNotPublished].
func (j *Journal) Fail(err error) {
	j.change(func(*engine) {
		j.failure = err
		if err != nil {
			j.cuts++
			j.cut = err
		}
	})
}

// Refuse makes Append of this node refuse the messages for which refuse returns an error, as an
// engine does that has a bound on their size. The others of the call are added, and the error
// of Append is [broadcast.AppendErrors]. refuse must not use the Journal. If nil, no message is
// refused.
func (j *Journal) Refuse(refuse func(broadcast.Message) error) {
	j.change(func(*engine) { j.refuse = refuse })
}

// Hold stops the Tails of this node from yielding anything, gaps and new epochs included,
// until [Journal.Release]. Append and Bounds still work, and a Tail still ends with its ctx,
// with Fail and with Restart.
func (j *Journal) Hold() { j.change(func(*engine) { j.held = true }) }

// Release ends the effect of Hold.
func (j *Journal) Release() { j.change(func(*engine) { j.held = false }) }

// Delay makes entries reach the Tails of this node d after they were appended, as over a slow
// network. If zero, they are not delayed. Append and Bounds are not delayed.
func (j *Journal) Delay(d time.Duration) { j.change(func(*engine) { j.delay = d }) }

func mustNotBeNegative(n int) {
	if n < 0 {
		panic(fmt.Sprintf("broadcasttest: a count of %d entries", n))
	}
}

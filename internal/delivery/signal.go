package delivery

import "sync/atomic"

// signal says whether a stream's writer runs, and whether it has to poll once more
// before it rests. It is one atomic word, so that a Poll that finds nothing and a
// notification at the same moment cannot miss each other:
//
//	writing    The writer runs, and no notification came since its turn began. A
//	           stream that has not begun is in this state too: nothing starts a
//	           writer for it.
//	notified   The writer runs or is about to, and must poll once more.
//	idle       No writer runs. The next notification has to start one.
//
//	state     notify             begin      rest
//	writing   notified           writing    idle, reports true
//	notified  notified           writing    notified, reports false
//	idle      notified, starts   writing    -
//
// begin and rest are the writer's, and a writer calls rest only after begin. After
// the end of the stream the word is never idle again, so that nothing starts
// another writer.
type signal struct{ word atomic.Int32 }

const (
	writing int32 = iota
	notified
	idle
)

// notify asks for another poll. It reports whether the caller has to start the
// writer.
func (s *signal) notify() (start bool) { return s.word.Swap(notified) == idle }

// begin begins a turn of the writer: what is notified from here on counts anew.
func (s *signal) begin() { s.word.Store(writing) }

// rest ends the writer's turn, unless a notification came since it began.
func (s *signal) rest() bool { return s.word.CompareAndSwap(writing, idle) }

// isIdle reports whether no writer runs, or is about to.
func (s *signal) isIdle() bool { return s.word.Load() == idle }

package delivery

import (
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/internal/ondemand"
	"github.com/fanfare-go/fanfare/internal/prefetch"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// workers run the writers of an engine's streams, as many at once as there are
// processors. They exist only while a stream has something to write: a goroutine for
// each stream and write would cost half as much as the write. The zero workers are
// ready.
//
// On many processors they are several crews with a queue each: every write goes through a
// queue, whose lock all workers of a crew wait for.
type workers struct{ crews [8]crew }

// processors is GOMAXPROCS as it was when a worker last began: to ask takes a lock of the
// runtime. 0: none has begun.
var processors atomic.Int32

// crews returns how many crews there is work for: one for each four processors.
func crews() int { return max(1, min(int(processors.Load())/4, len(workers{}.crews))) }

// add gives a stream a turn. It does not wait.
func (w *workers) add(s *Stream) {
	c := &w.crews[int(s.shard)%crews()]
	c.queue.Put(s, c.most(), c)
}

// crew is the workers of some of the streams.
type crew struct {
	queue ondemand.Queue[*Stream]

	mu    sync.Mutex
	spare []*Worker // with their buffers, also after a garbage collection. Guarded by mu
	_     [64]byte  // the next crew is in other cache lines
}

// most returns how many workers a crew has at once.
func (*crew) most() int {
	n := crews()
	return max(1, (int(processors.Load())+n-1)/n)
}

// Work runs the writers of streams that wait, one after the other.
func (c *crew) Work() {
	processors.Store(int32(runtime.GOMAXPROCS(0)))
	worker := c.get()
	for !worker.waited {
		s, next, afterNext, ok := c.queue.TakeAndPeek()
		if !ok {
			break
		}
		// Fetched until then: first a stream, and a turn later what its fields point to.
		prefetch.Struct(afterNext)
		if next != nil {
			next.prefetch()
		}
		s.run(worker)
	}
	c.put(worker)
}

func (c *crew) get() *Worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.spare) - 1
	if last < 0 {
		return &Worker{crew: c}
	}
	worker := c.spare[last]
	c.spare[last] = nil
	c.spare = c.spare[:last]
	return worker
}

func (c *crew) put(worker *Worker) {
	worker.waited, worker.turns = false, 0
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.spare) < c.most() {
		c.spare = append(c.spare, worker)
	}
}

// Worker is a goroutine that runs the writer of one stream after the other. No stream
// may keep the others waiting: before anything that may block its writer calls Wait,
// and another worker goes on with the rest.
type Worker struct {
	// Attempt writes without blocking.
	Attempt tcp.Attempt

	crew   *crew
	waited bool
	turns  int           // that it has run since it began
	now    time.Duration // when one of the last of them began, on the engine's clock
	joined []byte        // of the last write of several buffers
	batch  *batch        // for the next turn; nil: it is in use, or there is none
}

// turnsPerLook is in how many turns a worker looks at the clock once. A look takes a tenth of what
// a turn takes without its write.
const turnsPerLook = 8

// beginTurn returns when the turn begins that the worker is to run, on the engine's clock, or when
// one of the few before it did: what does not wait takes microseconds.
func (w *Worker) beginTurn(c *clock) time.Duration {
	if w.waits() {
		return c.now()
	}
	if w.turns%turnsPerLook == 0 {
		w.now = c.now()
	}
	w.turns++
	return w.now
}

// join returns several buffers as one, so that an Attempt can write them: to copy at most
// maxWrite bytes costs less than a writev on a goroutine of its own. What is larger, which only
// a large message is, stays as it is. The result is valid until the next join.
func (w *Worker) join(buffers net.Buffers) net.Buffers {
	if len(buffers) == 1 {
		return buffers
	}
	size := 0
	for _, b := range buffers {
		size += len(b)
	}
	if size > maxWrite {
		return buffers
	}
	w.joined = slices.Grow(w.joined[:0], size)
	for _, b := range buffers {
		w.joined = append(w.joined, b...)
	}
	clear(buffers) // a write that waits keeps one copy, not two
	buffers[0] = w.joined
	return buffers[:1]
}

// waits reports whether the writer may block: Wait was called, or there is no Worker.
func (w *Worker) waits() bool { return w == nil || w.waited }

// Wait is called before anything that may block. The Worker then belongs to its
// stream, and ends with the stream's turn. A nil Worker is a goroutine of the stream's
// own: it may block.
func (w *Worker) Wait() {
	if w.waits() {
		return
	}
	w.waited = true
	w.crew.queue.Leave(w.crew.most(), w.crew)
}

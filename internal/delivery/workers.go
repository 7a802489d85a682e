package delivery

import (
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/fanfare-go/fanfare/internal/ondemand"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// workers run the writers of an engine's streams, as many at once as there are
// processors. They exist only while a stream has something to write: a goroutine for
// each stream and write would cost half as much as the write. The zero workers are
// ready.
type workers struct {
	queue ondemand.Queue[*Stream]
	limit atomic.Int32 // how many run at once; 0: one. Each that begins sets it: to ask takes a lock of the runtime

	mu    sync.Mutex
	spare []*Worker // with their buffers, also after a garbage collection; at most limit. Guarded by mu
}

// add gives a stream a turn. It does not wait.
func (w *workers) add(s *Stream) { w.queue.Put(s, w.most(), w) }

func (w *workers) most() int { return max(1, int(w.limit.Load())) }

// Work runs the writers of streams that wait, one after the other.
func (w *workers) Work() {
	w.limit.Store(int32(runtime.GOMAXPROCS(0)))
	worker := w.get()
	for !worker.waited {
		s, ok := w.queue.Take()
		if !ok {
			break
		}
		s.run(worker)
	}
	w.put(worker)
}

func (w *workers) get() *Worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := len(w.spare) - 1
	if last < 0 {
		return &Worker{workers: w}
	}
	worker := w.spare[last]
	w.spare[last] = nil
	w.spare = w.spare[:last]
	return worker
}

func (w *workers) put(worker *Worker) {
	worker.waited = false
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.spare) < w.most() {
		w.spare = append(w.spare, worker)
	}
}

// Worker is a goroutine that runs the writer of one stream after the other. No stream
// may keep the others waiting: before anything that may block its writer calls Wait,
// and another worker goes on with the rest.
type Worker struct {
	// Attempt writes without blocking.
	Attempt tcp.Attempt

	workers *workers
	waited  bool
	joined  []byte // of the last write of several buffers
	batch   *batch // for the next turn; nil: it is in use, or there is none
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
	w.workers.queue.Leave(w.workers.most(), w.workers)
}

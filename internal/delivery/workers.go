package delivery

import (
	"net"
	"runtime"
	"slices"

	"github.com/fanfare-go/fanfare/internal/ondemand"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// workers run the writers of an engine's streams, as many at once as there are
// processors. They exist only while a stream has something to write: a goroutine for
// each stream and write would cost half as much as the write. The zero workers are
// ready.
type workers struct {
	queue ondemand.Queue[*Stream]
}

// add gives a stream a turn. It does not wait.
func (w *workers) add(s *Stream) { w.queue.Put(s, runtime.GOMAXPROCS(0), w) }

// Work runs the writers of streams that wait, one after the other.
func (w *workers) Work() {
	worker := Worker{workers: w}
	for !worker.waited {
		s, ok := w.queue.Take()
		if !ok {
			return
		}
		s.run(&worker)
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

// Wait is called before anything that may block. The Worker then belongs to its
// stream, and ends with the stream's turn. A nil Worker is a goroutine of the stream's
// own: it may block.
func (w *Worker) Wait() {
	if w == nil || w.waited {
		return
	}
	w.waited = true
	w.workers.queue.Leave(runtime.GOMAXPROCS(0), w.workers)
}

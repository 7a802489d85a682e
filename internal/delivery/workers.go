package delivery

import (
	"runtime"
	"sync"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

// workers let streams write that have news. They are a few goroutines, which exist only
// while there is something to do: to start one for each stream and write costs as much
// as half of the write. The zero value is ready.
type workers struct {
	mu          sync.Mutex
	first, last *Stream // those that wait for their turn, linked by Stream.next
	running     int
}

// add gives a stream its turn. It does not wait.
func (w *workers) add(s *Stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.first = s
	} else {
		w.last.next = s
	}
	w.last = s
	w.start()
}

// start starts another worker, if there is work for it. The caller holds mu.
func (w *workers) start() {
	if w.first != nil && w.running < runtime.GOMAXPROCS(0) {
		w.running++
		go (&Worker{pool: w}).run()
	}
}

// take returns the stream whose turn it is, and nil if there is none: then there is a
// worker less.
func (w *workers) take() *Stream {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.first
	if s == nil {
		w.running--
		return nil
	}
	if w.first = s.next; w.first == nil {
		w.last = nil
	}
	s.next = nil
	return s
}

// Worker is a goroutine that writes for one stream after the other. None may keep the
// others waiting: whoever has to wait says so first, and another worker goes on.
type Worker struct {
	// Attempt writes without waiting.
	Attempt tcp.Attempt

	pool   *workers
	waited bool
}

func (w *Worker) run() {
	for !w.waited {
		s := w.pool.take()
		if s == nil {
			return
		}
		s.run(w)
	}
}

// Wait is called before anything that may have to wait. The worker then belongs to its
// stream, and ends with its turn. A nil Worker does so anyhow.
func (w *Worker) Wait() {
	if w == nil || w.waited {
		return
	}
	w.waited = true
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	w.pool.running--
	w.pool.start()
}

package endtoend_test

import (
	"fmt"
	"sync"
)

// tally counts what happened. The zero tally is ready.
type tally struct {
	mu                       sync.Mutex
	delivered, gaps, streams int
	faults                   map[string]int
}

// fault is something that happens to a T, such as a client's network. It is over when
// strike returns; the error says what should not have followed.
type fault[T any] struct {
	name   string
	strike func(T) error
}

func (t *tally) fault(name string) { t.add(&tally{faults: map[string]int{name: 1}}) }

func (t *tally) client(r *record) { t.add(&tally{delivered: r.delivered, gaps: r.gaps}) }

func (t *tally) add(other *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.delivered += other.delivered
	t.gaps += other.gaps
	t.streams += other.streams
	if t.faults == nil {
		t.faults = make(map[string]int)
	}
	for name, n := range other.faults {
		t.faults[name] += n
	}
}

func (t *tally) String() string {
	return fmt.Sprintf("%d deliveries over %d streams, %d gaps; faults: %v", t.delivered, t.streams, t.gaps, t.faults)
}

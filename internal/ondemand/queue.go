// Package ondemand has a queue whose goroutines exist only while something waits in
// it.
package ondemand

import "sync"

// Queue is an unbounded queue with its goroutines. Put starts one, up to a limit,
// and a goroutine ends when Take finds nothing. The zero Queue is empty.
type Queue[T any] struct {
	mu      sync.Mutex
	items   []T // those from first on wait
	first   int
	running int
}

// Worker is what the goroutines of a [Queue] run: it calls Take until that reports
// false, or goes on alone after Leave.
type Worker interface{ Work() }

// Put appends an item, and starts a goroutine that runs w unless limit of them run.
// It does not wait.
func (q *Queue[T]) Put(item T, limit int, w Worker) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == cap(q.items) && q.first > len(q.items)/2 { // move down instead of growing, at most half
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	q.items = append(q.items, item)
	q.start(limit, w)
}

// start starts another goroutine if there is work for it. The caller holds mu.
func (q *Queue[T]) start(limit int, w Worker) {
	if q.first < len(q.items) && q.running < limit {
		q.running++
		go w.Work()
	}
}

// Take removes the oldest item. If there is none it reports false, and the calling
// goroutine must end: it does not count any more.
func (q *Queue[T]) Take() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.take()
}

// TakeAndPeek is Take, and also returns the next two items, as far as there are any. They stay
// in the queue, from where another goroutine may take them meanwhile.
func (q *Queue[T]) TakeAndPeek() (item, next, afterNext T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	item, ok = q.take()
	if q.first < len(q.items) {
		next = q.items[q.first]
	}
	if q.first+1 < len(q.items) {
		afterNext = q.items[q.first+1]
	}
	return item, next, afterNext, ok
}

// take is Take for a caller that holds mu.
func (q *Queue[T]) take() (item T, ok bool) {
	if q.first == len(q.items) {
		q.running--
		return item, false
	}
	var none T
	item, q.items[q.first] = q.items[q.first], none
	if q.first++; q.first == len(q.items) {
		q.items, q.first = q.items[:0], 0
		if cap(q.items) > maxSpare {
			q.items = nil
		}
	}
	return item, true
}

// maxSpare is how many places an empty queue keeps for the next items.
const maxSpare = 1024

// Leave lets the calling goroutine go on alone, for work that may block: it does not
// count any more, must not call Take again, and another one is started in its place if
// something waits.
func (q *Queue[T]) Leave(limit int, w Worker) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	q.start(limit, w)
}

// Len returns how many items wait.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) - q.first
}

package ws

import "sync"

// received is a message, or how reading ended.
type received struct {
	typ  MessageType
	data []byte
	err  error
}

// size is what a waiting message counts: also an empty one takes room.
func (r received) size() int64 { return int64(len(r.data)) + 64 }

// queue is what has been read and not been handled yet. One goroutine puts, one
// takes.
type queue struct {
	most int64         // bytes that wait at most, but for one message; negative: no limit
	room chan struct{} // has a token when there is more of it

	mu      sync.Mutex // guards what follows
	waiting []received
	bytes   int64
}

func newQueue(most int64) *queue {
	return &queue{most: most, room: make(chan struct{}, 1)}
}

// put waits for room, unless gone is closed, and adds r. It reports whether it had
// to wait.
func (q *queue) put(r received, gone <-chan struct{}) (waited bool) {
	for q.full(r) && !isClosed(gone) {
		waited = true
		select {
		case <-q.room:
		case <-gone:
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, r)
	q.bytes += r.size()
	return waited
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (q *queue) full(r received) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.most >= 0 && q.bytes > 0 && q.bytes+r.size() > q.most
}

// take returns the oldest, which goes on to take up room until it is let go of.
func (q *queue) take() (r received, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.waiting = nil
		return r, false
	}
	r = q.waiting[0]
	q.waiting[0] = received{}
	q.waiting = q.waiting[1:]
	return r, true
}

// letGo makes room again.
func (q *queue) letGo(r received) {
	q.mu.Lock()
	q.bytes -= r.size()
	q.mu.Unlock()
	select {
	case q.room <- struct{}{}:
	default:
	}
}

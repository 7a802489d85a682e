package broadcast

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/fanfare-go/fanfare/internal/ondemand"
)

// waker wakes the cursors that sleep on a topic when a message is published there. A
// publisher wakes a few itself and leaves the rest to a goroutine that exists only while
// there are cursors to wake, so that publishing costs the same with any number of
// subscribers.
//
// A topic is underway from before the message becomes the head until the last of these
// cursors has been woken. Meanwhile a Poll of several topics reads the topic's cursor even
// if that has not been woken yet: else it would return what is newer on one topic before
// what is older on another.
type waker struct {
	queue ondemand.Queue[wakeUp]

	mu       sync.Mutex
	underway map[*topic]int // how many messages; guarded by mu
	count    atomic.Int32   // len(underway), to be read without mu
}

// wakeUp is what the publisher left to the goroutine of a topic's round of sleepers.
type wakeUp struct {
	hub   *Hub
	topic *topic
	round uint32
}

const (
	wokenByPublisher = 16
	maxWakers        = 1 // goroutines
)

// announce says that a message on the topic is about to become the head; wake must follow.
// It counts even if no subscription reads the topic among several: one may come before the
// sleepers are dequeued. The caller holds Hub.mu.
func (w *waker) announce(t *topic) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.underway == nil {
		w.underway = make(map[*topic]int)
	}
	w.underway[t]++
	w.count.Store(int32(len(w.underway)))
}

// wake wakes the cursors that sleep on the topic. It calls Notify, so the caller holds no
// lock.
func (w *waker) wake(h *Hub, t *topic) {
	round, first, more := t.rouse()
	if first != nil {
		u := wakeUp{h, t, round}
		if u.wake(first, more, wokenByPublisher) {
			w.queue.Put(u, maxWakers, w)
			return
		}
	}
	w.done(t)
}

// Work wakes what publishers have left in the queue, until that is empty.
func (w *waker) Work() {
	for {
		u, ok := w.queue.Take()
		if !ok {
			return
		}
		if first, more := u.topic.nextToWake(u.round); first != nil {
			u.wake(first, more, math.MaxInt)
		}
		w.done(u.topic)
	}
}

// wake wakes a cursor and those after it, but at most so many, and reports whether it left any.
// One guard is enough for all of them: it goes on after a Notify that panics.
func (u wakeUp) wake(c *cursor, more bool, most int) (left bool) {
	wake := func() error {
		for {
			if c == nil && more && most > 0 {
				c, more = u.topic.nextToWake(u.round)
			}
			if c == nil {
				return nil
			}
			woken := c
			c = nil
			most--
			woken.wake()
		}
	}
	for c != nil || more && most > 0 {
		u.hub.guard(inNotify, wake)
	}
	return more
}

// done says that all cursors have been woken which slept when the message was published.
func (w *waker) done(t *topic) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.underway[t]--; w.underway[t] == 0 {
		delete(w.underway, t)
	}
	w.count.Store(int32(len(w.underway)))
}

// each calls f with the cursors of s whose topics are underway.
func (w *waker) each(s *subscription, f func(*cursor)) {
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.underway) > len(s.cursors) {
		for i := range s.cursors {
			if w.underway[s.cursors[i].topic] > 0 {
				f(&s.cursors[i])
			}
		}
		return
	}
	for t := range w.underway {
		if c := s.byTopic[t]; c != nil {
			f(c)
		}
	}
}

package broadcast

import (
	"sync"
	"sync/atomic"
)

// waker wakes the links that slept on a topic when a message comes. A publisher
// wakes a few itself and leaves the rest to a goroutine that exists only while
// there is someone to wake, so that publishing does not cost more with more
// subscribers.
//
// From before the message becomes the log's head until the last link is woken,
// news are underway. A Poll of several topics has to know: else it would return
// what is newer on one topic before what is older on another, whose link nobody
// has woken yet.
type waker struct {
	mu       sync.Mutex
	queue    []call
	running  bool
	underway map[*topic]int
	count    atomic.Int32 // len(underway), to be read without mu
}

// call is the part of a topic's sleepers that the goroutine is to wake.
type call struct {
	topic    *topic
	sleepers []*link
	from     int
}

const wokenByPublisher = 16

// announce says that a message on the topic is about to become the head; wake
// must follow. It counts also where nobody has the topic among several: somebody
// may subscribe before the sleepers are taken.
func (w *waker) announce(t *topic) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.underway == nil {
		w.underway = make(map[*topic]int)
	}
	w.underway[t]++
	w.count.Store(int32(len(w.underway)))
}

// wake wakes those who sleep on the topic. It is called without Hub.mu: it calls
// what subscribers gave as Notify.
func (w *waker) wake(t *topic) {
	sleepers := t.takeSleepers()
	few := min(len(sleepers), wokenByPublisher)
	for _, l := range sleepers[:few] {
		l.wake()
	}
	if few == len(sleepers) {
		w.done(t, sleepers)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, call{t, sleepers, few})
	if !w.running {
		w.running = true
		go w.run()
	}
}

func (w *waker) run() {
	for {
		w.mu.Lock()
		if len(w.queue) == 0 {
			w.queue, w.running = nil, false
			w.mu.Unlock()
			return
		}
		c := w.queue[0]
		w.queue[0] = call{}
		w.queue = w.queue[1:]
		w.mu.Unlock()
		for _, l := range c.sleepers[c.from:] {
			l.wake()
		}
		w.done(c.topic, c.sleepers)
	}
}

func (w *waker) done(t *topic, sleepers []*link) {
	t.giveBack(sleepers)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.underway[t]--; w.underway[t] == 0 {
		delete(w.underway, t)
	}
	w.count.Store(int32(len(w.underway)))
}

// each calls look with the links of s whose topics are underway.
func (w *waker) each(s *subscription, look func(*link)) {
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.underway) > len(s.links) {
		for i := range s.links {
			if w.underway[s.links[i].topic] > 0 {
				look(&s.links[i])
			}
		}
		return
	}
	for t := range w.underway {
		if l := s.byTopic[t]; l != nil {
			look(l)
		}
	}
}

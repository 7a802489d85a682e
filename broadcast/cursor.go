package broadcast

import (
	"container/heap"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// cursor is a subscription's place in one topic's ring. It is in one of these states:
//
//   - ready: it stands at the next message to return, and in subscription.ready.
//   - awake: its ring may have something to return. It stands in subscription.awake, and
//     the next Poll reads it.
//   - asleep: it stands in its topic's list of sleepers. The next message there moves it
//     to subscription.woken, from where Poll makes it awake.
//
// Poll may find by other means that a sleeping cursor has something to return. Such a
// cursor is ready or awake and still in its topic's list; asleep keeps it from being put
// there twice.
//
// A cursor holds no message, so that a slow reader pins none that its ring has evicted.
//
// Fields belong to the goroutine that polls, unless they say otherwise.
type cursor struct {
	sub   *subscription // set when the cursor is made
	topic *topic        // set when the cursor is made

	index   uint64 // of the next entry to read, in the topic's ring
	next    uint64 // the sequence of that entry if ready, else 0
	awake   bool   // in subscription.awake
	asleep  bool   // in the topic's sleepers, or in subscription.woken
	lost    bool   // the topic has lost something after Position; the next adopt reports it
	curtail bool   // Last messages were evicted before they were returned; the next adopt reports it if few are left

	// Guarded by topic.mu; released is also read without it.
	released      atomic.Bool // the subscription has other cursors, or is closed
	listed        bool        // in one of the topic's lists
	place         uint16      // among subscription.cursors; set when the cursor is made, and here for its size
	round         uint32      // of the topic when it was put there
	before, after *cursor     // there

	// after is the next in subscription.woken as well. It is owned then by the goroutine that
	// wakes, until Poll claims the list.
}

// cursorStep is how many cursors are worked on while Hub.mu is held, so that a subscription
// with a thousand of them does not hold up publishers.
const cursorStep = 32

// openCursors makes cursors on the named topics and pins these, with a few for each time that
// it holds Hub.mu. In the first it calls begin, then set for each cursor, and in the last
// commit. If one of them returns an error the topics are released again.
func (s *subscription) openCursors(names []string, begin func() error, set func(*cursor), commit func([]cursor) error) error {
	h, cursors := s.hub, s.own[:]
	if s.cursors != nil || len(names) != 1 {
		cursors = make([]cursor, len(names))
	}
	for n := 0; ; {
		from := n
		h.mu.Lock()
		err := h.use(time.Now())
		if err == nil && n == 0 {
			err = begin()
		}
		for ; err == nil && n < min(from+cursorStep, len(names)); n++ {
			c := &cursors[n]
			c.sub, c.topic, c.place = s, h.kept.topic(names[n]), uint16(n)
			h.kept.pin(c.topic)
			set(c)
		}
		done := n == len(names)
		if err == nil && done {
			err = commit(cursors)
		}
		h.mu.Unlock()
		switch {
		case err != nil:
			h.releaseCursors(cursors[:n])
			return err
		case done:
			return nil
		}
		runtime.Gosched() // to who waits for Hub.mu
	}
}

// releaseCursors unpins the topics of cursors that are no longer polled. After that nothing
// leads from a topic to them. The caller holds no lock.
func (h *Hub) releaseCursors(cursors []cursor) {
	for i := range cursors {
		cursors[i].topic.release(&cursors[i])
	}
	for len(cursors) > 0 {
		n, now := min(cursorStep, len(cursors)), time.Now()
		h.mu.Lock()
		for i := range n {
			h.kept.unpin(cursors[i].topic, now)
		}
		h.trim(now)
		h.mu.Unlock()
		if cursors = cursors[n:]; len(cursors) > 0 {
			runtime.Gosched()
		}
	}
}

// indexByTopic makes the map of a subscription's cursors by topic, if there are several.
func (s *subscription) indexByTopic() {
	s.byTopic = nil
	if s.several() {
		s.byTopic = make(map[*topic]*cursor, len(s.cursors))
		for i := range s.cursors {
			s.byTopic[s.cursors[i].topic] = &s.cursors[i]
		}
	}
}

// cursorOn returns the subscription's cursor on a topic, or nil.
func (s *subscription) cursorOn(t *topic) *cursor {
	if s.several() {
		return s.byTopic[t]
	}
	if c := &s.cursors[0]; c.topic == t {
		return c
	}
	return nil
}

// several reports whether messages of more than one topic have to be merged.
func (s *subscription) several() bool { return len(s.cursors) > 1 }

// SetTopics replaces the subscription's topics from Position on. Topics that are new are
// resumed after it.
func (s *subscription) SetTopics(topics []string) error {
	names, err := distinct(topics)
	if err != nil {
		return fmt.Errorf("broadcast: SetTopics: %w", err)
	}
	if err := s.setTopics(names); err != nil {
		return err
	}
	s.wake() // the new topics may have something that the last Poll did not return
	return nil
}

func (s *subscription) setTopics(names []string) error {
	h, live := s.hub, false
	open := func() error {
		if s.closed.Load() {
			return ErrClosed
		}
		return nil
	}
	// Of a live subscription, cursors on topics that it had go on where the old ones are, the
	// others begin after Position. In any other stage they are set when it is adopted.
	var links []link
	if s.state != nil && s.state.links != nil {
		links = make([]link, len(names))
	}
	set := func(c *cursor) {
		old := s.cursorOn(c.topic)
		switch {
		case old != nil && links != nil:
			links[c.place] = s.state.links[old.place]
		case links != nil:
			links[c.place].begins = s.beginning
		}
		if old != nil {
			c.index, c.next, c.lost, c.curtail = old.index, old.next, old.lost, old.curtail
		} else if s.stage == stageLive {
			c.index, c.lost = c.topic.indexAfter(s.position.seq), c.topic.lost() > s.position.seq
			if s.amongLast() {
				s.state.lastEnds[c.topic] = c.index // there are no Last messages of it
			}
		}
	}
	old := s.cursors
	err := s.openCursors(names, open, set, func(cursors []cursor) error {
		if err := open(); err != nil {
			return err
		}
		s.cursors = cursors
		if s.state != nil {
			s.state.changeLinks(links, names)
		}
		s.pending.keep(names)
		s.placement.history.keep(names)
		live = s.stage == stageLive
		s.relocate(old)
		s.markEnds()
		return nil
	})
	if err != nil {
		return err
	}
	s.indexByTopic()
	s.ready, s.awake = nil, nil
	if live {
		s.enqueueCursors()
	}
	h.releaseCursors(old)
	s.own[0].topic = nil // nothing of the first topic stays
	return nil
}

// enqueueCursors puts new cursors of a live subscription where they belong.
func (s *subscription) enqueueCursors() {
	for i := range s.cursors {
		c := &s.cursors[i]
		if c.lost || c.curtail {
			s.attention.Store(true)
		}
		if c.next != 0 {
			s.ready = append(s.ready, c)
		} else {
			s.markAwake(c)
		}
	}
	heap.Init(&s.ready)
}

// read returns the next entry up to limit, or nil if there is none yet, and leaves the cursor
// there. It reports whether entries before that have been lost.
func (c *cursor) read(limit uint64) (e *entry, lost bool) {
	for {
		r := c.topic.ring.Load()
		if r == nil {
			return nil, c.topic.first.Load() > c.index
		}
		e := r.at(c.index).Load()
		switch {
		case e == nil || e.index < c.index:
			return nil, c.topic.first.Load() > c.index
		case e.index > c.index || e.msg.ID.epoch != c.sub.epoch:
			return nil, true
		case e.msg.ID.seq > limit:
			return nil, false
		case e.msg.ID.seq > c.sub.skip:
			return e, false
		}
		c.index++
	}
}

// hasNews reports whether read would find an entry or a loss now, or the topic's table.
func (c *cursor) hasNews() bool {
	limit := min(c.sub.hub.head.Load(), c.sub.end.Load())
	e, lost := c.read(limit)
	return e != nil || lost || c.keysHaveChanged(limit)
}

// wake moves a cursor that slept to subscription.woken, and calls Notify if the subscription
// is armed. Any goroutine may call it, once for each time that it has removed the cursor from
// those that its topic has to wake. The caller guards it.
func (c *cursor) wake() {
	s := c.sub
	if c.released.Load() {
		return
	}
	for {
		c.after = s.woken.Load()
		if s.woken.CompareAndSwap(c.after, c) {
			break
		}
	}
	s.callNotify()
}

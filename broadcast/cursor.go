package broadcast

import (
	"container/heap"
	"fmt"
	"sync/atomic"
	"time"
)

// cursor is a subscription's place in one topic's ring. It is in one of these states:
//
//   - ready: it has read the next message to return, and stands in subscription.ready.
//   - awake: its ring may have something to return. It stands in subscription.awake, and
//     the next Poll reads it.
//   - asleep: it stands in its topic's list of sleepers. The next message there moves it
//     to subscription.woken, from where Poll makes it awake.
//
// Poll may find by other means that a sleeping cursor has something to return. Such a
// cursor is ready or awake and still in its topic's list; asleep keeps it from being put
// there twice.
//
// Fields belong to the goroutine that polls, unless they say otherwise.
type cursor struct {
	sub   *subscription // set when the cursor is made
	topic *topic        // set when the cursor is made

	index  uint64 // of the next entry to read, in the topic's ring
	next   *entry // read and not returned yet: it can no longer be lost; not nil if ready
	awake  bool   // in subscription.awake
	asleep bool   // in the topic's sleepers, or in subscription.woken
	lost   bool   // the topic has lost something after Position; the next adopt reports it

	released atomic.Bool // set under Hub.mu when the subscription has other cursors, or is closed
	woken    *cursor     // the next in subscription.woken; owned by the goroutine that wakes, until Poll claims the list
}

// openCursors makes new cursors for the subscription and pins their topics. Their places in
// the rings are still to be set. The caller holds Hub.mu.
func (s *subscription) openCursors(topics []string) {
	s.cursors, s.byTopic = make([]cursor, len(topics)), nil
	s.ready, s.awake = nil, nil
	if s.several() {
		s.byTopic = make(map[*topic]*cursor, len(topics))
	}
	for i, name := range topics {
		t := s.hub.kept.topic(name)
		s.hub.kept.pin(t)
		c := &s.cursors[i]
		c.sub, c.topic = s, t
		if s.several() {
			s.byTopic[t] = c
		}
	}
}

// releaseCursors unpins the topics of cursors that are no longer polled. The caller holds
// Hub.mu.
func (h *Hub) releaseCursors(cursors []cursor, now time.Time) {
	for i := range cursors {
		cursors[i].released.Store(true)
		h.kept.unpin(cursors[i].topic, now)
	}
}

// several reports whether messages of more than one topic have to be merged.
func (s *subscription) several() bool { return len(s.cursors) > 1 }

// reads reports whether a topic is one of the subscription's.
func (s *subscription) reads(topic string) bool {
	for i := range s.cursors {
		if s.cursors[i].topic.name == topic {
			return true
		}
	}
	return false
}

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
	h, now := s.hub, time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed.Load() {
		return ErrClosed
	}
	if err := h.use(now); err != nil {
		return err
	}
	old := s.cursors
	s.openCursors(names)
	h.releaseCursors(old, now)
	s.relocate(old)
	s.markEnds()
	return nil
}

// inherit sets the new cursors of a live subscription: those on topics that it had go on
// where the old ones were, the others begin after Position. The caller holds Hub.mu.
func (s *subscription) inherit(old []cursor) {
	before := make(map[*topic]*cursor, len(old))
	for i := range old {
		before[old[i].topic] = &old[i]
	}
	for i := range s.cursors {
		c := &s.cursors[i]
		if o := before[c.topic]; o != nil {
			c.index, c.next, c.lost = o.index, o.next, o.lost
		} else {
			c.index, c.lost = c.topic.indexAfter(s.position.seq), c.topic.evicted > s.position.seq
		}
		if c.lost {
			s.attention.Store(true)
		}
		if c.next != nil {
			s.ready = append(s.ready, c)
		} else {
			s.markAwake(c)
		}
	}
	heap.Init(&s.ready)
}

// read returns the next entry up to limit and moves the cursor after it, or nil if there
// is none yet. It reports whether entries before that have been lost.
func (c *cursor) read(limit uint64) (e *entry, lost bool) {
	for {
		r := c.topic.ring.Load()
		if r == nil {
			return nil, false
		}
		e := r.at(c.index).Load()
		switch {
		case e == nil || e.index < c.index:
			return nil, c.topic.first.Load() > c.index
		case e.index > c.index || e.msg.ID.epoch != c.sub.epoch:
			return nil, true
		case e.msg.ID.seq > limit:
			return nil, false
		}
		c.index++
		if e.msg.ID.seq > c.sub.skip {
			return e, false
		}
	}
}

// hasNews reports whether read would find an entry or a loss now. It does not move the
// cursor.
func (c *cursor) hasNews() bool {
	index := c.index
	e, lost := c.read(min(c.sub.hub.head.Load(), c.sub.end.Load()))
	c.index = index
	return e != nil || lost
}

// collect fills buf with what the cursors have up to limit, merged by sequence. It
// reports whether a cursor has lost something; the messages in buf come before that.
func (s *subscription) collect(buf []*Message, limit uint64) (n int, lost bool) {
	s.findNews()
	if s.readAwake(limit) {
		return 0, true
	}
	for n < len(buf) && len(s.ready) > 0 && !lost {
		c := s.ready[0]
		if c.next.msg.ID.seq > limit {
			break
		}
		buf[n] = &c.next.msg
		n++
		if c.next, lost = c.read(limit); c.next != nil {
			heap.Fix(&s.ready, 0)
			continue
		}
		heap.Pop(&s.ready)
		s.markAwake(c)
	}
	if s.several() {
		// At once, so that the next Poll reads no more cursors than there are messages,
		// however long the subscription stays awake.
		s.sleepCursors()
	}
	return n, lost
}

// findNews makes the cursors awake that may have something to return.
func (s *subscription) findNews() {
	// A cursor may have news before it has been woken. A single cursor is simply read. Of
	// several the waker knows which; it comes before the woken list, since a cursor may move
	// from there to the list meanwhile.
	if s.several() {
		s.hub.waker.each(s, s.markAwake)
	} else {
		s.markAwake(&s.cursors[0])
	}
	for c := s.woken.Swap(nil); c != nil; {
		next := c.woken
		c.woken, c.asleep = nil, false
		if !c.released.Load() {
			s.markAwake(c)
		}
		c = next
	}
}

// markAwake lets the next readAwake read a cursor, unless it is ready.
func (s *subscription) markAwake(c *cursor) {
	if c.next == nil && !c.awake {
		c.awake = true
		s.awake = append(s.awake, c)
	}
}

// readAwake reads the awake cursors, and makes those ready that have an entry up to limit.
// It reports whether any has lost something.
func (s *subscription) readAwake(limit uint64) (lost bool) {
	awake := s.awake[:0]
	for _, c := range s.awake {
		e, gone := c.read(limit)
		lost = lost || gone
		if e == nil {
			awake = append(awake, c)
			continue
		}
		c.awake, c.next = false, e
		heap.Push(&s.ready, c)
	}
	clear(s.awake[len(awake):])
	s.awake = awake
	return lost
}

// sleepCursors puts awake cursors to sleep on their topics, except those that have news.
func (s *subscription) sleepCursors() {
	awake := s.awake[:0]
	for _, c := range s.awake {
		if !c.asleep {
			c.asleep = true
			c.topic.sleep(c)
		}
		// A message that was published before the cursor was in the list has not woken it.
		if c.hasNews() {
			awake = append(awake, c)
			continue
		}
		c.awake = false
	}
	clear(s.awake[len(awake):])
	s.awake = awake
}

// wake moves a cursor that slept to subscription.woken, and calls Notify if the subscription
// is armed. Any goroutine may call it, once for each time that it has dequeued the cursor
// from its topic's sleepers.
func (c *cursor) wake() {
	s := c.sub
	if c.released.Load() {
		return
	}
	for {
		c.woken = s.woken.Load()
		if s.woken.CompareAndSwap(c.woken, c) {
			break
		}
	}
	s.wake()
}

// bySequence is a heap of ready cursors by the sequence of their next message.
type bySequence []*cursor

func (b bySequence) Len() int           { return len(b) }
func (b bySequence) Less(i, j int) bool { return b[i].next.msg.ID.seq < b[j].next.msg.ID.seq }
func (b bySequence) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b *bySequence) Push(c any)        { *b = append(*b, c.(*cursor)) }
func (b *bySequence) Pop() any {
	last := len(*b) - 1
	c := (*b)[last]
	(*b)[last] = nil
	*b = (*b)[:last]
	return c
}

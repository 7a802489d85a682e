package broadcast

import "container/heap"

// collect fills buf with what the cursors have up to limit, merged by sequence. It
// reports whether a cursor has lost something; the messages in buf come before that.
func (s *subscription) collect(buf []*Message, limit uint64) (n int, lost bool) {
	s.findNews()
	if !s.several() && len(s.ready) == 0 {
		return s.collectOne(buf, limit)
	}
	if s.readAwake(limit) {
		return 0, true
	}
	return s.merge(buf, limit)
}

// collectOne is collect for the only cursor, which is awake, and stays so: there is nothing to merge.
func (s *subscription) collectOne(buf []*Message, limit uint64) (n int, lost bool) {
	c := &s.cursors[0]
	e, lost := c.read(limit)
	for ; e != nil && n < len(buf); n++ {
		buf[n] = &e.msg
		c.index++
		e, lost = c.read(limit)
	}
	return n, lost
}

// merge is collect once the awake cursors have been read.
func (s *subscription) merge(buf []*Message, limit uint64) (n int, lost bool) {
	var last *cursor // that was read, and
	var e *entry     // what it is at
	for n < len(buf) && len(s.ready) > 0 && !lost {
		c := s.ready[0]
		if c.next > limit {
			break
		}
		if c != last { // what it was at may have been evicted
			e, lost = c.read(limit)
		}
		if e != nil {
			buf[n] = &e.msg
			n++
			c.index++
			e, lost = c.read(limit)
		}
		if last = c; e != nil {
			c.next = e.msg.ID.seq
			heap.Fix(&s.ready, 0)
			continue
		}
		c.next = 0
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
	if s.woken.Load() == nil {
		return
	}
	for c := s.woken.Swap(nil); c != nil; {
		next := c.after
		c.after, c.asleep = nil, false
		if !c.released.Load() {
			s.markAwake(c)
		}
		c = next
	}
}

// markAwake lets the next readAwake read a cursor, unless it is ready.
func (s *subscription) markAwake(c *cursor) {
	if c.next == 0 && !c.awake {
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
		c.awake, c.next = false, e.msg.ID.seq
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

// bySequence is a heap of ready cursors by the sequence of their next message.
type bySequence []*cursor

func (b bySequence) Len() int           { return len(b) }
func (b bySequence) Less(i, j int) bool { return b[i].next < b[j].next }
func (b bySequence) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b *bySequence) Push(c any)        { *b = append(*b, c.(*cursor)) }
func (b *bySequence) Pop() any {
	last := len(*b) - 1
	c := (*b)[last]
	(*b)[last] = nil
	*b = (*b)[:last]
	return c
}

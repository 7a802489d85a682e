package broadcast

import (
	"cmp"
	"slices"
)

// returnLast fills buf with Last messages. These are up to the position, which they do not
// move, and they are returned even if the subscription has been finished. Messages that were
// evicted meanwhile are left out.
func (s *subscription) returnLast(buf []*Message) (n int) {
	for s.amongLast() && !s.closed.Load() {
		limit, values := s.position.seq, s.state.lastValues
		if len(values) > 0 {
			limit = values[0].ID.seq
		}
		n, lost := s.collect(buf, limit)
		switch {
		case n > 0:
			return n
		case lost && s.curtailCursors():
			continue
		}
		if len(values) > 0 {
			n = copy(buf[:1], values)
			s.state.lastValues = values[n:]
			return n
		}
		s.leaveLast()
	}
	return 0
}

// amongLast reports whether Last messages are left.
func (s *subscription) amongLast() bool { return s.state != nil && s.state.lastEnds != nil }

// curtailCursors moves the awake cursors whose entries were evicted to the oldest that is
// kept, and reports whether there were any. Those that have lost Last messages are curtailed.
func (s *subscription) curtailCursors() (any bool) {
	for _, c := range s.awake {
		if first := c.topic.first.Load(); c.index < first {
			c.curtail = c.curtail || c.index < s.state.lastEnds[c.topic]
			c.index, any = first, true
			s.attention.Store(true)
		}
	}
	return any
}

// leaveLast lets the cursors go on after the Last messages. One that was moved further has
// been overrun there.
func (s *subscription) leaveLast() {
	for i := range s.cursors {
		c := &s.cursors[i]
		if end, ok := s.state.lastEnds[c.topic]; ok {
			c.index = min(c.index, end)
		}
	}
	s.skip, s.state = s.position.seq, nil
}

// beginWithLast lets the cursors of a subscription begin with the Last messages of each topic.
// Its position is the head, which may be before the newest: the messages that the tail has
// still to reach follow the Last ones. The caller holds mu, and sets the cursors with
// beginCursorWithLast.
func (h *Hub) beginWithLast(s *subscription) {
	if h.epoch == 0 || !h.follower.published.IsZero() {
		// There is no newest message yet. It gets all that is kept, after a gap.
		s.from = s.position
		return
	}
	head := h.head.Load()
	s.stage, s.placement = stageLive, placement{after: head}
	s.position, s.epoch = ID{h.epoch, head}, h.epoch
	s.state = &state{lastEnds: make(map[*topic]uint64)}
}

// beginCursorWithLast sets a cursor at the oldest Last message of its topic, and adds the values
// that are among these. The caller holds Hub.mu.
func (c *cursor) beginCursorWithLast() {
	s, t := c.sub, c.topic
	if s.stage != stageLive {
		return
	}
	after := t.indexAfter(s.position.seq)
	events, values := min(uint64(s.last), after-t.first.Load()), []*Message(nil)
	if tb := t.table.Load(); tb != nil {
		values = tb.newestValues(s.last)
		// Of the newest of both kinds, the oldest go until there are as many as Last.
		for events+uint64(len(values)) > uint64(s.last) {
			if events > 0 && t.ring.Load().at(after-events).Load().msg.ID.seq < values[0].ID.seq {
				events--
			} else {
				values = values[1:]
			}
		}
	}
	c.index = after - events
	c.lost = t.lost() > s.position.seq
	s.state.lastEnds[t] = after
	s.state.lastValues = append(s.state.lastValues, values...)
}

// sortLastValues puts the values of all topics in order, once all cursors are set.
func (s *subscription) sortLastValues() {
	if s.amongLast() {
		slices.SortFunc(s.state.lastValues, func(a, b *Message) int { return cmp.Compare(a.ID.seq, b.ID.seq) })
	}
}

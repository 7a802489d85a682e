package broadcast_test

import (
	"slices"

	"github.com/fanfare-go/fanfare/broadcast"
)

// open connects a client, mostly where it was before.
func (w *stateWorld) open(c *stateClient) {
	m := &w.model
	s := &stateStream{end: -1, told: make(map[string][2]int), walked: make(map[string]bool), walks: make(map[string]int)}
	if c.names == nil || w.rng.IntN(3) == 0 {
		c.names = w.some()
	}
	s.names = c.names
	after := c.position
	switch w.rng.IntN(12) {
	case 0:
		after = broadcast.ID{}
	case 1:
		after = m.id(m.head() + 2)
	case 2:
		after = broadcast.MakeID(1, 3)
	}
	last := 0
	if after.IsZero() {
		last = w.rng.IntN(6)
	}
	m.subscribe(s.names)
	sub, err := w.hub.Subscribe(w.ctx, broadcast.SubscribeOptions{Topics: s.names, After: after, Last: last, Beginning: c.beginning, Notify: func() { s.calls++ }})
	if err != nil {
		w.fail("Subscribe: %v", err)
	}
	s.sub, s.at, c.stream = sub, after, s
	w.note("client %d opens %v after %q, Last %d, Beginning %v", c.number, s.names, after, last, c.beginning)
	switch {
	case after.IsZero() && c.beginning:
		s.due = slices.Clone(s.names)
	case after.IsZero():
		s.at = m.id(m.head())
		s.last = m.lastOf(s.names, last)
		s.lastAt, s.lastOf = m.head(), last
		if sub.Position() != s.at {
			w.fail("client %d: the position is %v before the first Poll", c.number, sub.Position())
		}
	case after.Epoch() != m.epoch || int(after.Seq()) > m.head():
		s.odd = true
		if c.beginning {
			s.due = slices.Clone(s.names)
		}
	}
	c.expect(s, m, after)
}

func (w *stateWorld) cut(c *stateClient) {
	if c.stream == nil {
		return
	}
	w.note("client %d is cut, at %v", c.number, c.position)
	w.leave(c)
}

// leave closes the stream of a client, which comes back with its position.
func (w *stateWorld) leave(c *stateClient) {
	w.model.unsubscribe(c.stream.names)
	if err := c.stream.sub.Close(); err != nil {
		w.fail("Close: %v", err)
	}
	c.stream = nil
}

func (w *stateWorld) finish(c *stateClient) {
	c.stream.finish(w.model.head())
	w.note("client %d is to end at %d", c.number, c.stream.end)
	c.stream.sub.(broadcast.Finisher).Finish()
}

// change gives a stream other topics.
func (w *stateWorld) change(c *stateClient) {
	s, m := c.stream, &w.model
	if s.end >= 0 || len(s.last) > 0 || !s.polled {
		return
	}
	names, before, position := w.some(), s.names, s.sub.Position()
	w.note("client %d changes to %v from %v", c.number, names, position)
	m.subscribe(names)
	m.unsubscribe(before)
	if c.beginning {
		interrupted := s.due
		s.due = nil
		for _, name := range names {
			if !slices.Contains(before, name) || slices.Contains(interrupted, name) {
				s.due = append(s.due, name)
			}
		}
		if s.begins {
			w.tally.Interrupted++
		}
		if s.begins || len(s.due) > 0 {
			c.position = broadcast.ID{} // until everything has begun
		}
		// Where nothing is to begin any more, the round goes on, and has no position until it ends.
		s.most, s.least, s.begins, s.partial = 0, 0, position.Epoch() == 1 && len(s.due) == 0, nil
	}
	s.names, c.names = names, names
	for name := range c.has {
		if !slices.Contains(names, name) {
			delete(c.has, name)
			delete(s.told, name)
		}
	}
	for _, name := range names {
		if c.has[name] == nil {
			c.has[name] = newStateTopic(int(s.at.Seq()))
		}
	}
	s.newRound()
	if err := s.sub.(broadcast.TopicSetter).SetTopics(names); err != nil {
		w.fail("SetTopics: %v", err)
	}
	if s.sub.Position() != position {
		w.fail("client %d: SetTopics moved the position from %v to %v", c.number, position, s.sub.Position())
	}
	s.armed, s.changed = false, true
}

// drain polls until nothing is left.
func (w *stateWorld) drain(c *stateClient) {
	for range 10_000 {
		if c.stream == nil || w.poll(c, 1+w.rng.IntN(len(w.buf))) {
			return
		}
	}
	w.fail("client %d: Poll finds no end", c.number)
}

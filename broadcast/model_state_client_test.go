package broadcast_test

import (
	"slices"

	"github.com/fanfare-go/fanfare/broadcast"
)

// message checks a message, and gives it to the client.
func (w *stateWorld) message(c *stateClient, msg *broadcast.Message, limit int, position broadcast.ID) {
	s, m, seq := c.stream, &w.model, int(msg.ID.Seq())
	w.same(msg)
	has := c.has[msg.Topic]
	switch l := m.at(seq); {
	case !slices.Contains(s.names, msg.Topic):
		w.fail("client %d: %v on %s", c.number, msg.ID, msg.Topic)
	case len(s.last) > 0 && seq <= s.lastAt:
		w.lastMessage(s, seq)
		return
	case l.key == "":
		w.event(c, has, seq, limit)
	default:
		w.value(c, has, seq)
	}
	if position.Epoch() == m.epoch && position.Seq() >= msg.ID.Seq() {
		w.send(c, msg.ID, true)
	}
}

// event checks an event, before which none may be missing.
func (w *stateWorld) event(c *stateClient, has *stateHas, seq, limit int) {
	if has.events[seq] || seq <= has.since || seq > limit {
		w.fail("client %d: event %d, not after %d, limit %d, again: %v", c.number, seq, has.since, limit, has.events[seq])
	}
	for later := range has.events {
		if later > seq {
			w.fail("client %d: event %d after %d", c.number, seq, later)
		}
	}
	w.hasEvents(c, w.model.at(seq).topic, has, seq-1)
	has.events[seq] = true
}

// value checks a value or a removal.
func (w *stateWorld) value(c *stateClient, has *stateHas, seq int) {
	s, m, l := c.stream, &w.model, w.model.at(seq)
	switch {
	case m.topics[l.topic].keys[l.key] != seq:
		w.fail("client %d: %d is not the newest of %s", c.number, seq, l.key)
	case has.keys[l.key] > seq:
		w.fail("client %d: %d after %d of the same Key", c.number, seq, has.keys[l.key])
	case s.at.Epoch() == m.epoch && seq <= int(s.at.Seq()) && !(s.begins && slices.Contains(s.due, l.topic)):
		w.fail("client %d: %d, which is before its position %v", c.number, seq, s.at)
	case s.begins && l.removed && slices.Contains(s.due, l.topic):
		w.fail("client %d: the removal %d in a beginning", c.number, seq)
	case s.walked[l.topic+l.key]:
		w.fail("client %d: %s on %s again in the same round", c.number, l.key, l.topic)
	}
	s.walked[l.topic+l.key] = true
	if s.walks[l.topic] == 0 {
		s.walks[l.topic] = len(m.topics[l.topic].keys)
		w.tally.Walks++
	}
	if s.walks[l.topic]--; s.walks[l.topic] < 0 {
		w.fail("client %d: a round takes in Keys of %s that came after it had begun", c.number, l.topic)
	}
	has.keys[l.key] = seq
}

// send sends the client a position. From then on it counts on having everything up to that, or
// in the middle of what a Poll returned, something newer that follows.
func (w *stateWorld) send(c *stateClient, position broadcast.ID, middle bool) {
	c.position = position
	upTo := int(position.Seq())
	for _, name := range c.stream.names {
		has := c.has[name]
		w.hasEvents(c, name, has, upTo)
		for _, key := range w.model.allKeys(name) {
			newest := w.model.newest(name, key, upTo)
			later := w.model.newest(name, key, w.model.head())
			switch got := has.keys[key]; {
			case newest <= has.since, got >= newest, has.excuse[key] >= newest:
			case middle && later > newest:
			case has.begun && got == 0 && w.model.at(newest).removed: // a beginning has no removals
			case has.begun && got == 0 && w.model.isRemoved(name, key, newest): // what is newer follows
			default:
				w.fail("client %d is sent %v and has %d of %s on %s, not %d", c.number, position, got, key, name, newest)
			}
		}
	}
}

// hasEvents checks that a client has all events up to a sequence.
func (w *stateWorld) hasEvents(c *stateClient, name string, has *stateHas, upTo int) {
	for seq := has.since + 1; seq <= upTo; seq++ {
		l := w.model.at(seq)
		if l.topic == name && l.key == "" && !has.events[seq] && !has.lost[seq] && !w.model.isReplaced(seq) {
			w.fail("client %d comes to %d and never got %d", c.number, upTo, seq)
		}
	}
}

// same checks that a message is the one published, and the same for all.
func (w *stateWorld) same(msg *broadcast.Message) {
	if msg.ID.Epoch() != w.model.epoch || int(msg.ID.Seq()) > w.model.head() {
		w.fail("got %v", msg.ID)
	}
	l := w.model.at(int(msg.ID.Seq()))
	if l.seen == nil {
		l.seen = msg
	}
	if l.seen != msg || msg.Topic != l.topic || msg.Key != l.key || msg.Removed != l.removed || msg.First != l.first || msg.End != l.end ||
		int64(len(msg.Topic)+len(msg.Key)+len(msg.Data)) != l.size {
		w.fail("%v is not the message published: %+v", msg.ID, msg)
	}
}

// expectLast leaves out of the Last messages those events that were evicted.
func (w *stateWorld) expectLast(s *stateStream, err error) {
	s.last = slices.DeleteFunc(s.last, func(seq int) bool {
		l := w.model.at(seq)
		if l.key != "" || l.kept {
			return false
		}
		if s.few == nil {
			s.few = make(map[string]bool)
		}
		s.few[l.topic] = true
		return true
	})
	if len(s.last) > 0 && err != nil {
		w.fail("%v, and the Last messages %v are left", err, s.last)
	}
}

// lastMessage checks one of the Last messages.
func (w *stateWorld) lastMessage(s *stateStream, seq int) {
	if s.last[0] != seq {
		w.fail("of the Last messages came %d, want %v", seq, s.last)
	}
	if w.model.at(seq).key != "" {
		w.tally.Last++
	}
	s.last = s.last[1:]
}

// isFew reports whether a topic has too little left of what Last asked for.
func (w *stateWorld) isFew(s *stateStream, name string) bool {
	return s.few[name] && len(w.model.topics[name].events) < min(s.lastOf, w.model.keep(name))
}

func stateSequences(msgs []*broadcast.Message) (seqs []any) {
	for _, m := range msgs {
		seqs = append(seqs, m.ID.Seq())
		if m.Key != "" {
			seqs = append(seqs, m.Key)
		}
	}
	return seqs
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

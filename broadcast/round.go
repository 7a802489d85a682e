package broadcast

import (
	"cmp"
	"slices"
)

// state is what a subscription has beyond its cursors. It exists only where a topic has Keys,
// with SubscribeOptions.Beginning, among the Last messages, and after an end.
//
// It is owned by the goroutine that polls, which changes links with Hub.mu held if the
// subscription has a Beginning: the Hub reads them as well.
type state struct {
	err error // that every further Poll returns: ErrEnded or ErrSlow

	// links is what the cursors have beyond themselves, by cursor.place.
	links []link
	round round

	changed []*cursor // for startRound, which has no use for what is in it

	// base is the sequence of the position, while that is the reserved one because some topics
	// begin: the others go on after it.
	base  uint64
	due   int // how many links have begins set
	begun int // beginnings since another round was completed

	// The Last messages. lastEnds is nil unless the cursors are among them; it has the index of
	// the first event after them, by topic.
	lastEnds   map[*topic]uint64
	lastValues []*Message // in sequence
}

// link is what a subscription knows of a topic's Keys.
type link struct {
	begins bool // its beginning is due, or under way

	// allowed are losses that have been reported, or need not be: in a topic that begins, those
	// of values if it was reported as partial.
	allowed losses
}

// round is the way of a subscription from its position to what was the head when the round
// started. A round that fits in one Poll is none. Others have two parts, the Keys and the events;
// the position moves only with the events, so that a client which is cut among the Keys gets all
// that it lacks, and what changes meanwhile is left to the next round. In a beginning the events
// come first, and the position is the reserved one until both parts are done.
type round struct {
	part      roundPart
	beginning bool
	to        uint64 // it ends at this sequence
	walks     []walk // through the tables that have something after the position
}

type roundPart uint8

const (
	// betweenRounds is where the next Poll starts a round.
	betweenRounds roundPart = iota

	// amongKeys is where the next Poll returns what the walks find.
	amongKeys

	// amongEvents is where the next Poll returns what the rings have up to the round's end.
	amongEvents
)

// needState makes the state if there is none.
func (s *subscription) needState() *state {
	if s.state == nil {
		s.state = new(state)
	}
	if s.state.links == nil {
		s.state.links = make([]link, len(s.cursors))
	}
	return s.state
}

// allowed returns the losses of a topic's Keys that are not to be reported by a reader which
// goes on after a sequence.
func (s *subscription) allowed(c *cursor, after uint64) losses {
	if s.state == nil || s.state.links == nil {
		return losses{after, after}
	}
	a := s.state.links[c.place].allowed
	return losses{max(a.value, after), max(a.removal, after)}
}

// fill fills buf with what comes next up to limit, and moves the position. It reports whether
// something was lost, or is to begin; the messages in buf come before that.
func (s *subscription) fill(buf []*Message, limit uint64) (n int, lost bool) {
	if s.state == nil && s.hub.kept.tables.Load() == 0 {
		n, lost = s.collect(buf, limit)
		return s.moveAfter(buf, n, lost, limit)
	}
	for {
		if s.state == nil || s.state.round.part == betweenRounds {
			return s.startRound(buf, limit)
		}
		n, lost, done := s.continueRound(buf)
		if !done || !s.completeRound() {
			return n, lost
		}
	}
}

// moveAfter moves the position after the n events in buf that were collected up to limit.
func (s *subscription) moveAfter(buf []*Message, n int, lost bool, limit uint64) (int, bool) {
	switch {
	case s.closed.Load():
		return 0, false // the cursors are not woken, so an older message may be missing
	case n > 0:
		s.position = buf[n-1].ID
	case !lost:
		s.pass(limit)
	}
	if s.state != nil && !lost && n < len(buf) {
		s.state.begun = 0
	}
	return n, lost
}

// pass moves the position to a sequence, unless it is further on.
func (s *subscription) pass(seq uint64) { s.position.seq = max(s.position.seq, seq) }

// startRound is fill between two rounds. If everything up to limit fits in buf it returns that;
// else a round starts.
func (s *subscription) startRound(buf []*Message, limit uint64) (n int, lost bool) {
	if s.state != nil {
		if s.state.due > 0 {
			return 0, true
		}
		if s.position.epoch != s.epoch {
			s.goOnFromBase(limit)
			return s.fill(buf, limit)
		}
	}
	if s.findNews(); s.readAwake(limit) {
		return 0, true
	}
	if !s.keysHaveChanged(limit) {
		n, lost = s.merge(buf, limit)
		return s.moveAfter(buf, n, lost, limit)
	}
	s.reads = 0 // values may be newer than the position: the journal would give older ones after them
	changed := s.changedTables(limit)
	after := s.position.seq
	for _, c := range changed {
		k, fits, lost := c.topic.table.Load().changed(buf[n:], after, s.allowed(c, after))
		switch {
		case lost:
			return 0, true
		case !fits:
			return s.walkRound(buf, changed, limit)
		}
		n += k
	}
	switch events, lost := s.countEvents(limit, len(buf)-n); {
	case lost:
		return 0, true
	case events > len(buf)-n:
		return s.walkRound(buf, changed, limit)
	}
	return s.returnAll(buf, n, limit)
}

// keysHaveChanged reports whether Keys of any topic have changed after the position.
func (s *subscription) keysHaveChanged(limit uint64) bool {
	has := func(c *cursor) bool { return c.keysHaveChanged(limit) }
	return slices.ContainsFunc(s.awake, has) || slices.ContainsFunc(s.ready, has)
}

// changedTables returns the cursors whose Keys have changed after the position.
func (s *subscription) changedTables(limit uint64) []*cursor {
	st := s.needState()
	st.changed = st.changed[:0]
	for _, cursors := range [...][]*cursor{s.ready, s.awake} {
		for _, c := range cursors {
			if c.keysHaveChanged(limit) {
				st.changed = append(st.changed, c)
			}
		}
	}
	return st.changed
}

// keysHaveChanged reports whether the topic has Keys that have changed after the position. Those
// that changed after limit may count.
func (c *cursor) keysHaveChanged(limit uint64) bool {
	tb := c.topic.table.Load()
	return tb != nil && tb.hasNews(c.sub, limit)
}

func (tb *table) hasNews(s *subscription, limit uint64) bool {
	after := uint64(0)
	if s.position.epoch == s.epoch {
		after = s.position.seq
	}
	return limit > after && tb.newest.Load() > after
}

// countEvents counts the events that the ready cursors have up to limit, but not much further
// than most. It reports whether some were lost.
func (s *subscription) countEvents(limit uint64, most int) (n int, lost bool) {
	for _, c := range s.ready {
		ring := c.topic.ring.Load()
		for i := c.index; n <= most; i++ {
			if c.topic.first.Load() > i {
				return n, true
			}
			e := ring.at(i).Load()
			if e == nil || e.index != i || e.msg.ID.seq > limit {
				break
			}
			n++
		}
	}
	return n, false
}

// returnAll adds the events up to limit to the n entries of tables in buf, in order. Nothing is
// left up to limit then, unless events were lost meanwhile.
func (s *subscription) returnAll(buf []*Message, n int, limit uint64) (_ int, lost bool) {
	k, lost := 0, false
	if n < len(buf) {
		k, lost = s.merge(buf[n:], limit)
	}
	switch n += k; {
	case s.closed.Load():
		return 0, false
	case lost && k == 0:
		return 0, true // the tables are read again
	case !lost:
		s.pass(limit)
		s.needState().begun = 0
	case k > 0:
		s.position = buf[n-1].ID
	}
	slices.SortFunc(buf[:n], func(a, b *Message) int { return cmp.Compare(a.ID.seq, b.ID.seq) })
	return n, lost
}

// walkRound starts a round that does not fit.
func (s *subscription) walkRound(buf []*Message, changed []*cursor, limit uint64) (n int, lost bool) {
	r, after := &s.needState().round, s.position.seq
	*r = round{part: amongKeys, to: limit, walks: make([]walk, 0, len(changed))}
	for _, c := range changed {
		r.walks = append(r.walks, walk{table: c.topic.table.Load(), after: after, allowed: s.allowed(c, after)})
	}
	return s.fill(buf, limit)
}

// continueRound fills buf with the next part of a round, or reports that it is done.
func (s *subscription) continueRound(buf []*Message) (n int, lost, done bool) {
	r := &s.state.round
	if r.beginning {
		return s.continueBeginning(buf)
	}
	if r.part == amongKeys {
		if n, lost = r.readKeys(buf); n > 0 || lost {
			return n, lost, false
		}
		r.part = amongEvents
	}
	n, lost = s.collect(buf, r.to)
	switch {
	case s.closed.Load():
		return 0, false, false
	case n > 0:
		s.position = buf[n-1].ID
	}
	return n, lost, n == 0 && !lost
}

// continueBeginning is continueRound for a beginning.
func (s *subscription) continueBeginning(buf []*Message) (n int, lost, done bool) {
	r := &s.state.round
	if r.part == amongEvents {
		n, lost = s.collect(buf, r.to)
		switch {
		case s.closed.Load():
			return 0, false, false
		case lost || n == len(buf):
			return n, lost, false
		}
		r.part = amongKeys
	}
	k, lost := r.readKeys(buf[n:])
	n += k
	return n, lost && n == 0, n == 0 && !lost
}

// readKeys fills buf with what the walks find.
func (r *round) readKeys(buf []*Message) (n int, lost bool) {
	for n < len(buf) && len(r.walks) > 0 {
		k, done, lost := r.walks[0].read(buf[n:])
		n += k
		switch {
		case lost:
			return n, n == 0 // it is found again
		case done:
			r.walks = r.walks[1:]
		}
	}
	return n, false
}

// completeRound ends a round of which everything has been returned: the position is its end. It
// reports false if the subscription has been closed.
func (s *subscription) completeRound() bool {
	if s.closed.Load() {
		return false
	}
	st := s.state
	if st.round.beginning {
		s.completeBeginning()
	} else {
		s.pass(st.round.to)
		st.begun = 0
	}
	st.round = round{}
	return true
}

// forgetRound forgets a round, since the cursors are set anew, in another epoch or elsewhere, and
// what was known of the topics' Keys. What is to begin still is.
func (s *subscription) forgetRound() {
	if s.state == nil {
		return
	}
	s.state.round, s.state.lastEnds, s.state.lastValues = round{}, nil, nil
	for i := range s.state.links {
		s.state.links[i].allowed = losses{}
	}
	if s.state.links == nil {
		s.state = nil
	}
}

// after returns the sequence after which a topic's messages are still to be returned.
func (s *subscription) after(i int) uint64 {
	switch {
	case s.position.epoch == s.epoch:
		return s.position.seq
	case s.state != nil && !s.begins(i):
		return s.state.base
	}
	return 0
}

// keysAreLost reports whether a topic has lost Keys that the subscription had still to return,
// and notes that this is reported. The caller is the goroutine that polls, and holds Hub.mu.
func (s *subscription) keysAreLost(i int) bool {
	c := &s.cursors[i]
	tb := c.topic.table.Load()
	if tb == nil {
		return false
	}
	lost := tb.evicted()
	if !lost.exceeds(s.allowed(c, s.after(i))) {
		return false
	}
	st := s.needState()
	st.links[i].allowed = lost
	for j := range st.round.walks {
		if w := &st.round.walks[j]; w.table == tb {
			w.allowed = losses{max(w.allowed.value, lost.value), max(w.allowed.removal, lost.removal)}
		}
	}
	return true
}

// changeLinks ends the round, for other topics that the subscription has from now on. Those whose
// beginning was interrupted begin again.
func (st *state) changeLinks(links []link, names []string) {
	st.links, st.round, st.begun, st.changed, st.due = links, round{}, 0, nil, 0
	for i := range links {
		if links[i].begins {
			st.due++
		}
	}
	st.lastValues = slices.DeleteFunc(st.lastValues, func(m *Message) bool { return !slices.Contains(names, m.Topic) })
}

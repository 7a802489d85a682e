package broadcast

import (
	"container/heap"
	"math"
	"runtime"
)

// maxBeginnings is how often a subscription begins until another round is completed.
const maxBeginnings = 3

// beginAll lets all topics begin. The caller holds Hub.mu, or the Hub does not have the
// subscription yet.
func (s *subscription) beginAll() {
	st := s.needState()
	st.due = len(st.links)
	for i := range st.links {
		st.links[i].begins = true
	}
}

// begins reports whether a cursor's topic is to begin. Nothing of it is lost then. The caller is
// the goroutine that polls, or holds Hub.mu.
func (s *subscription) begins(i int) bool { return s.beginning && s.state.links[i].begins }

// begin starts the beginning of the topics that are to begin, in a round that the others take
// part in from where they are. It fills buf with the first messages, and returns a [*BeginError].
// The caller holds Hub.mu, which is released between a few cursors and the next.
func (s *subscription) begin(buf []*Message) (int, error) {
	h, st := s.hub, s.state
	s.reads = 0
	if st.begun == maxBeginnings {
		st.err = ErrSlow
		return 0, ErrSlow
	}
	to := min(h.head.Load(), s.end.Load())
	if s.position.epoch == s.epoch {
		st.base = s.position.seq
	}
	if max(st.base, s.skip) > to { // this Hub is behind: the others have nothing to go on from
		s.beginAll()
	}
	st.round = round{part: amongEvents, beginning: true, to: to}
	begin := new(BeginError)
	for i := range s.cursors {
		if i > 0 && i%cursorStep == 0 {
			h.mu.Unlock()
			runtime.Gosched()
			h.mu.Lock()
			if s.attention.Load() || s.stage != stageLive {
				st.round = round{}
				return 0, nil // it is placed anew, or closed
			}
		}
		s.beginCursor(i, begin)
	}
	st.begun++
	if len(begin.Topics) == len(s.cursors) {
		begin.Topics, st.base = nil, 0
	}
	s.ready = s.ready[:0]
	for i := range s.cursors {
		if c := &s.cursors[i]; c.next != 0 {
			s.ready = append(s.ready, c)
		} else {
			s.markAwake(c)
		}
	}
	heap.Init(&s.ready)
	s.position, s.skip = ID{epoch: unknownEpoch}, 0
	n, _, _ := s.continueRound(buf)
	if s.closed.Load() {
		return 0, ErrClosed
	}
	return n, begin
}

// beginCursor prepares a cursor for a round that is a beginning. If its topic begins, that is
// added to the topics of begin. The caller holds Hub.mu.
func (s *subscription) beginCursor(i int, begin *BeginError) {
	c, l, r := &s.cursors[i], &s.state.links[i], &s.state.round
	t := c.topic
	tb := t.table.Load()
	if !l.begins {
		if c.next == 0 && s.skip > 0 {
			c.index = max(c.index, t.indexAfter(s.skip))
		}
		if after := s.state.base; tb != nil && tb.newest.Load() > after {
			r.walks = append(r.walks, walk{table: tb, after: after, allowed: s.allowed(c, after)})
		}
		return
	}
	begin.Topics = append(begin.Topics, t.name)
	c.index, c.next, c.lost, c.curtail = t.first.Load(), 0, false, false
	l.allowed = losses{removal: r.to}
	if tb != nil {
		l.allowed.value = tb.evicted().value
	}
	if s.hub.isPartial(t) {
		begin.Partial = append(begin.Partial, t.name)
		l.allowed.value = math.MaxUint64
	}
	if tb != nil {
		r.walks = append(r.walks, walk{table: tb, live: true, allowed: l.allowed})
	}
}

// leaveBeginning lets no topic begin any more, since the subscription goes on elsewhere. The
// caller is the goroutine that polls, and holds Hub.mu.
func (s *subscription) leaveBeginning() {
	if !s.beginning {
		return
	}
	s.state.due = 0
	for i := range s.state.links {
		s.state.links[i].begins = false
	}
}

// goOnFromBase starts a round for the topics that are left where those that began were removed in
// the middle. It is like a beginning in which none begins: some of the events after base have been
// returned, so that a client which is cut cannot resume there.
func (s *subscription) goOnFromBase(to uint64) {
	st := s.state
	st.round = round{part: amongEvents, beginning: true, to: to}
	for i := range s.cursors {
		c := &s.cursors[i]
		if tb := c.topic.table.Load(); tb != nil && tb.newest.Load() > st.base {
			st.round.walks = append(st.round.walks, walk{table: tb, after: st.base, allowed: s.allowed(c, st.base)})
		}
	}
}

// completeBeginning ends a beginning: the topics go on like all others after its end.
func (s *subscription) completeBeginning() {
	st := s.state
	h := s.hub
	h.mu.Lock()
	for i := range st.links {
		if l := &st.links[i]; l.begins {
			*l = link{}
		}
	}
	h.mu.Unlock()
	st.due = 0
	s.position = ID{s.epoch, max(st.round.to, st.base)}
}

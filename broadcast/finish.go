package broadcast

// ending is where a finished subscription ends. What its topics lose after that is no loss
// of the subscription's. It is guarded by Hub.mu.
type ending struct {
	at       ID   // the Hub's head when the subscription was finished
	unplaced bool // it ends where it is: only the engine could place it then, or have what follows
	gap      bool // its placement had a gap then, which is reported before the end

	// holes are those of that epoch before the end. The Hub may forget them.
	holes holes

	// cursors is where the cursors of these indexes end. It is nil if the subscription is
	// still to be placed, or has other cursors since, and in another epoch.
	cursors []cursorEnd
}

// cursorEnd is a part of a topic's ring.
type cursorEnd struct {
	first uint64 // index of the first entry after the placement; only in stagePlaced
	last  uint64 // index of the first entry after the end
	lost  bool   // the topic has lost something between them; only in stagePlaced
}

// Finish lets the subscription end at what is the head now.
func (s *subscription) Finish() {
	s.hub.mu.Lock()
	if s.ending == nil {
		head := s.hub.head.Load()
		s.ending = &ending{at: ID{s.hub.epoch, head}, unplaced: s.stage == stageWaiting, holes: s.hub.holes}
		s.ending.gap = s.hasPlacement() && s.placement.gap
		s.end.Store(head)
		if s.reader != nil {
			s.reader.end.Store(head)
		}
		s.markEnds()
	}
	s.hub.mu.Unlock()
	s.wake()
}

// markEnds notes where the cursors of a finished subscription begin and end, since later the
// rings do not tell whether what they have evicted was before the end. It is called when the
// subscription is finished, and when it is placed after that. The caller holds Hub.mu.
func (s *subscription) markEnds() {
	if s.ending == nil {
		return
	}
	s.ending.cursors = nil
	if !s.hasPlacement() || s.ending.at.epoch != s.hub.epoch {
		return
	}
	end, after := s.ending.at.seq, s.placement.after
	s.ending.cursors = make([]cursorEnd, len(s.cursors))
	for i := range s.cursors {
		t := s.cursors[i].topic
		s.ending.cursors[i] = cursorEnd{first: t.indexAfter(after), last: t.indexAfter(end), lost: t.lost() > after && end > after}
	}
}

// hasEnded reports whether everything up to the end has been returned, gaps too, whatever has
// been lost since. It is called by the goroutine that polls, with Hub.mu held.
func (s *subscription) hasEnded() bool {
	e := s.ending
	return e != nil && (e.unplaced ||
		!e.gap && s.position.epoch == e.at.epoch && s.position.seq >= e.at.seq && !s.isCurtailed())
}

// isCurtailed reports whether Last messages were evicted before they were returned, and that
// is still to be reported if few are left. It is called by the goroutine that polls.
func (s *subscription) isCurtailed() bool {
	for i := range s.cursors {
		if s.cursors[i].curtail {
			return true
		}
	}
	return false
}

// start returns where in its ring a cursor begins after its placement, and whether its topic
// has lost something that the subscription should have returned. The caller holds Hub.mu.
func (s *subscription) start(i int) (index uint64, lost bool) {
	t, after := s.cursors[i].topic, s.placement.after
	if s.ending == nil || s.ending.cursors == nil {
		return t.indexAfter(after), t.lost() > after
	}
	e, first := s.ending.cursors[i], t.first.Load()
	return max(e.first, first), e.lost && t.lost() > after || e.first < min(first, e.last) && t.evicted > after // else a First stands for them
}

// cursorIsOverrun reports whether its ring has evicted something that a live cursor had still to
// return. The caller holds Hub.mu.
func (s *subscription) cursorIsOverrun(i int) bool {
	c := &s.cursors[i]
	first := c.topic.first.Load()
	if s.ending != nil && s.ending.cursors != nil {
		first = min(first, s.ending.cursors[i].last)
	}
	return c.index < first && c.topic.evicted > s.skip
}

// needed returns the sequence up to which history is read: what the rings have evicted, but
// nothing after the end. The caller holds Hub.mu.
func (s *subscription) needed() uint64 {
	if s.ending != nil && s.ending.at.epoch == s.hub.epoch {
		return min(s.evicted(), s.ending.at.seq)
	}
	return s.evicted()
}

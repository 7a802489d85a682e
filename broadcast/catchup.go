package broadcast

// readOn lets a subscription read the journal if the rings have overrun it before it has caught up
// since it resumed: it may be fast enough, and has only got more to read than the rings have. It
// reports whether it does. What the tail has lost is reported from the rings, which have what
// comes before it. The caller holds Hub.mu.
func (s *subscription) readOn() bool {
	h, at := s.hub, s.position
	switch {
	case s.reads == 0, h.Journal == nil, !s.hasPlacement(), s.placement.gap, s.placement.missing, at.epoch != h.epoch:
		return false
	case s.ending != nil: // it does not wait any more
		return false
	case s.state != nil && s.state.round.part != betweenRounds: // it has had newer values than its position
		return false
	}
	if s.stage == stagePlaced {
		at.seq = max(at.seq, s.placement.after)
	}
	before := s.from
	if s.from = at; h.holes.last() > at.seq || !s.isOverrun() || s.distance() == lost {
		s.from = before
		return false
	}
	s.reads--
	s.position = at // SetTopics goes on from there
	s.stage, s.epoch = stageReading, 0
	h.readFor(s)
	return true
}

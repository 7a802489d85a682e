package broadcast

// hole is a part of the log that the journal's tail has lost: entries after one sequence, up
// to another. What was kept before it stays, and comes before its gap.
//
// A subscription has still to report a hole if that ends after its position.
type hole struct{ after, upTo uint64 }

// holes are those of the Hub's epoch, the oldest first. They are guarded by Hub.mu.
type holes []hole

// maxHoles is how many are remembered. Beyond it what was kept before the oldest is evicted.
const maxHoles = 16

// last returns the sequence at which the newest hole ends; 0 if there is none.
func (l holes) last() uint64 {
	if len(l) == 0 {
		return 0
	}
	return l[len(l)-1].upTo
}

// lose notes that everything after the head and up to seq may be lost, which becomes the head.
// It returns the subscriptions to wake because of it. The caller holds mu.
func (h *Hub) lose(seq uint64) []*subscription {
	if len(h.holes) == maxHoles {
		h.kept.loseOld(h.holes[0].upTo)
		h.holes = append(holes(nil), h.holes[1:]...)
	}
	h.holes = append(h.holes, hole{h.head.Load(), seq})
	h.kept.loseMaps(seq)
	subs := h.subs.all()
	for _, s := range subs {
		s.attention.Store(true)
	}
	h.head.Store(seq)
	return subs
}

// pendingHoles returns the holes that the subscription has still to report before its end. It is
// called by the goroutine that polls, with Hub.mu held.
func (s *subscription) pendingHoles() holes {
	passed, end, all := uint64(0), s.end.Load(), s.hub.holes
	if s.ending != nil && s.ending.at.epoch == s.hub.epoch {
		all = s.ending.holes
	}
	if s.position.epoch == s.epoch {
		passed = s.position.seq
	}
	for len(all) > 0 && all[0].upTo <= passed {
		all = all[1:]
	}
	for len(all) > 0 && all[len(all)-1].after >= end {
		all = all[:len(all)-1]
	}
	return all
}

// fillBeforeHole fills buf with what comes before the next hole, and moves the position. If nothing
// does, the hole is to be reported, with what follows it. It is called by the goroutine that polls,
// with Hub.mu held.
func (s *subscription) fillBeforeHole(buf []*Message, limit uint64) (n int, due bool) {
	for _, hole := range s.pendingHoles() {
		if n, _ = s.fill(buf, min(limit, hole.after)); n > 0 || s.closed.Load() {
			return n, due
		}
		s.pass(min(limit, hole.upTo))
		due = true
	}
	n, _ = s.fill(buf, limit)
	return n, due
}

// beganBeforeHole reports whether a subscription with a Beginning has come to a hole, so that it
// begins again. It is called by the goroutine that polls, with Hub.mu held.
func (s *subscription) beganBeforeHole() bool {
	passed := s.hub.holes.last()
	switch {
	case s.position.epoch == s.epoch:
		passed = s.position.seq
	case s.state.round.beginning:
		passed = s.state.round.to
	}
	return s.hub.holes.last() > passed && len(s.pendingHoles()) > 0
}

// reportHoles returns what comes before the next hole, or the gap that this is and what follows
// it. The caller holds Hub.mu.
func (s *subscription) reportHoles(buf []*Message) (int, error) {
	pending := s.pendingHoles()
	if len(pending) == 0 {
		return 0, nil
	}
	n, _ := s.fill(buf, min(pending[0].after, s.end.Load()))
	switch {
	case n > 0:
	case s.closed.Load():
		return 0, ErrClosed
	default:
		return s.reportGap(buf, nil)
	}
	s.attention.Store(true) // the hole is still to be reported
	return n, nil
}

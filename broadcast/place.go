package broadcast

import (
	"container/heap"
	"runtime"
)

// stage is how far a subscription has come from the position that it resumes from to the
// rings that it reads. [Hub.locate], [Hub.place] and [subscription.adopt] are the only ways
// from one stage to another, but for Close.
//
//	from      to                        when
//	          waiting, reading, placed  Subscribe locates it
//	          live                      Subscribe begins with Last messages
//	waiting   reading, placed           the engine has answered
//	reading   placed                    its history has been read
//	reading   waiting                   the journal has a new epoch
//	waiting   waiting, reading, placed  SetTopics locates it anew
//	reading   waiting, reading, placed  SetTopics locates it anew
//	placed    reading, placed           SetTopics locates it anew: not all history was returned
//	placed    reading                   rings have overrun it while it was returned its history
//	placed    live                      Poll adopts the placement
//	live      reading                   rings have overrun it before it has caught up
//	live      placed                    the journal has a new epoch
//	any       ended                     Close
type stage uint8

const (
	// stageWaiting is a subscription whose position only the engine can place. It may have
	// come from a server whose tail is further on, or this Hub does not know its journal
	// yet. Until the engine has answered (see resolver) Poll returns no message and no gap,
	// and the position stays as it is.
	stageWaiting stage = iota

	// stageReading is a subscription whose position this Hub knows, but whose rings have
	// evicted messages after it. Until these have been read from the journal (see
	// historian) Poll returns no message and no gap, and the position stays as it is.
	stageReading

	// stagePlaced is a subscription with a placement that Poll has not adopted yet. Its
	// cursors are not set, or still follow an older placement, so Poll must not read them
	// before it has adopted the new one. It returns the history of the placement first.
	stagePlaced

	// stageLive is the steady stage. The cursors are on the rings of the Hub's epoch, and
	// Poll reads them without the Hub's lock.
	//
	// Invariant: subscription.epoch == Hub.epoch.
	stageLive

	// stageEnded is a subscription after Close. An answer of the engine or a history that
	// arrives later is dropped.
	stageEnded
)

var stageNames = [...]string{"waiting for the engine", "reading history", "placed", "live", "ended"}

func (s stage) String() string { return stageNames[s] }

// placement is where a subscription goes on in the Hub's epoch. It is valid in stagePlaced
// and stageLive, and after in stageWaiting as [Hub.begin] says.
type placement struct {
	// after is the sequence after which the cursors begin. Entries up to it are not
	// returned, not even if the tail of the journal has still to reach them.
	//
	// Invariant: after <= Hub.newest(). It may be higher than Hub.head.
	after uint64

	// history is what was read from the journal for the subscription. Poll returns it
	// before it sets the cursors.
	//
	// Invariant: its sequences rise, and are between the subscription's position and after.
	// If a new epoch has placed the subscription since, they are of the epoch before.
	history *history

	// gap is set if messages of any topic may have been lost before the first that follows.
	// The next Poll reports and clears it.
	gap bool

	// missing is set if the journal has not got what the rings have evicted after it. The next
	// Poll reports that, and clears it.
	missing bool
}

// knows reports whether this Hub knows, without asking the engine, that the log has a
// position. The caller holds mu.
func (h *Hub) knows(id ID) bool {
	return h.epoch != 0 && id.epoch == h.epoch && id.seq <= h.newest()
}

// newest is the newest sequence that this Hub knows of: its head, or what it has
// published or heard of while its journal's tail is still on the way there. The caller
// holds mu.
func (h *Hub) newest() uint64 { return max(h.head.Load(), h.follower.newest) }

// locateNew locates a subscription that Subscribe has made, unless beginWithLast or a new epoch
// since has placed it. The caller holds mu.
func (h *Hub) locateNew(s *subscription) {
	switch published := h.follower.published; {
	case s.hasPlacement():
	case !s.from.IsZero():
		h.locate(s)
	case !published.IsZero():
		// The log goes on in an epoch that the tail has still to enter.
		s.from, s.position = published, published
		h.locate(s)
	case h.epoch != 0:
		h.place(s, placement{after: h.newest()})
	default:
		h.locate(s)
	}
	if s.stage == stagePlaced && !s.placement.gap && !(s.beginning && s.from.IsZero()) {
		s.position = ID{h.epoch, s.placement.after}
	}
}

// locate places a subscription by its position, or lets it wait for the engine or for its
// history. The caller holds mu, and wakes the subscription afterwards if it may have been
// polled.
func (h *Hub) locate(s *subscription) {
	switch known := h.knows(s.from); {
	case known && h.Journal != nil && s.isOverrun() && s.distance() != lost:
		s.stage = stageReading
		h.readFor(s)
	case known:
		h.place(s, placement{after: s.from.seq})
	case h.Journal != nil:
		s.stage = stageWaiting
		h.resolver.add(s)
		h.resolver.nudge()
	default:
		h.place(s, h.afterLoss(s.from, h.epoch))
	}
}

// afterLoss is the placement for a position that the log does not have. One that is ahead
// of the log goes on from now; one of another log gets all that is kept, but for what has
// survived from there (see adopt). The caller holds mu.
func (h *Hub) afterLoss(from ID, epoch uint64) placement {
	if from.epoch == epoch {
		return placement{after: h.newest(), gap: true}
	}
	return placement{gap: true}
}

// place gives a subscription its placement, which the next Poll adopts. The caller holds
// mu, and wakes the subscription afterwards if it may have been polled.
func (h *Hub) place(s *subscription, p placement) {
	s.stage, s.placement = stagePlaced, p
	s.markEnds()
	s.attention.Store(true)
}

// isOverrun reports whether the Hub has lost something that follows the position of the
// subscription. The caller holds Hub.mu.
func (s *subscription) isOverrun() bool {
	return !s.from.IsZero() && s.evicted() > s.from.seq
}

// evicted returns the highest sequence that any of the subscription's topics has lost, but for
// those that begin, or that the tail has lost. The caller holds Hub.mu.
func (s *subscription) evicted() (seq uint64) {
	seq = s.hub.holes.last()
	for i := range s.cursors {
		if !s.begins(i) {
			seq = max(seq, s.cursors[i].topic.lost())
		}
	}
	return seq
}

// hasPlacement reports whether the Hub has decided where the subscription goes on. The
// caller holds Hub.mu.
func (s *subscription) hasPlacement() bool { return s.stage == stagePlaced || s.stage == stageLive }

// enterEpoch places a subscription in an epoch that the Hub has just entered: after a gap,
// at the first entry. History that it has not returned yet comes before the gap. Entries of the
// epoch before are still there up to survived. The caller holds Hub.mu.
func (s *subscription) enterEpoch(start, survived uint64) {
	if s.hasPlacement() {
		s.hub.place(s, placement{gap: true, history: s.placement.history})
	} else {
		s.placement = placement{} // see Hub.begin
	}
	if end := s.end.Load(); end != forever {
		s.end.Store(max(start, min(end, survived))) // what was pending was in the epoch before
	}
}

// relocate decides where the subscription goes on when SetTopics has replaced its cursors.
// In stagePlaced there is nothing to do, since adopt sets all of them, and in stageLive they
// have been set. The caller holds Hub.mu.
func (s *subscription) relocate(old []cursor) {
	p := &s.placement
	if s.stage == stagePlaced && !p.gap && s.from.IsZero() && s.position.epoch == unknownEpoch && !s.beginning {
		// It was placed without a gap for the topics that it had.
		p.gap = true
		s.stage = stageWaiting
		s.hub.begin(s)
		return
	}
	if s.stage == stagePlaced && p.gap && !s.only(old) {
		// What the new topics have had in the epoch before is lost, so nothing of that
		// epoch may come any more before the gap.
		s.dropHistory()
	}
	switch s.stage {
	case stageWaiting, stageReading:
		s.hub.locate(s)
	case stagePlaced:
		if !p.gap && s.position.epoch == s.hub.epoch && s.position.seq < p.after {
			// Not all history has been returned, and it is not of these topics.
			s.dropHistory()
			s.from = s.position
			s.hub.locate(s)
		}
	}
}

// dropHistory forgets history that has not been returned. The caller holds Hub.mu.
func (s *subscription) dropHistory() {
	s.pending.drop()
	s.placement.history.drop()
	s.pending, s.placement.history = nil, nil
}

// only reports whether each topic of the subscription is one of old cursors. The caller holds
// Hub.mu.
func (s *subscription) only(old []cursor) bool {
	had := make(map[*topic]bool, len(old))
	for i := range old {
		had[old[i].topic] = true
	}
	for i := range s.cursors {
		if !had[s.cursors[i].topic] {
			return false
		}
	}
	return true
}

// adopt applies what the Hub has decided about the subscription since the last Poll, and
// moves cursors that have been overrun. It holds the Hub's lock, so that nothing is evicted
// meanwhile. If something was lost it fills buf with what follows the loss, and returns a
// [*GapError].
func (s *subscription) adopt(buf []*Message) (int, error) {
	h, p := s.hub, &s.placement
	h.mu.Lock()
	defer h.mu.Unlock()
	s.attention.Store(false)
	if s.hasEnded() {
		return 0, ErrClosed // even if something after the end was lost
	}
	if !s.hasPlacement() {
		return 0, nil
	}
	s.pending = nil // all of it has been returned
	if !p.history.isEmpty() {
		s.pending, p.history = p.history, nil
		s.attention.Store(true) // to adopt the rest once the history has been returned
		return 0, nil
	}
	p.history = nil
	if s.readOn() {
		return 0, nil
	}
	if s.stage == stagePlaced {
		if p.gap && s.position.epoch != h.epoch {
			// What it has had of entries that are still there does not come again.
			p.after = max(p.after, h.follower.survived(s.position))
		}
		if !s.moveCursors() {
			return 0, nil // it has been placed anew, or closed
		}
		s.stage = stageLive
	}
	lost := s.catchUpCursors()
	gap := p.gap
	onItsWay := s.reads > 0 && h.Journal != nil && !gap && !p.missing
	p.gap, p.missing = false, false
	switch {
	case lost != nil && s.ending != nil && onItsWay:
		s.ending.unplaced, s.epoch = true, 0 // it ends where it is, and may resume from there
		return 0, ErrClosed
	case s.beginning && (gap || lost != nil || s.beganBeforeHole()):
		s.beginAll()
		return s.begin(buf)
	case s.beginning && s.state.due > 0 && !s.state.round.beginning:
		return s.begin(buf)
	case s.beginning:
		return 0, nil
	case gap:
		return s.reportGap(buf, nil)
	case lost != nil:
		return s.reportGap(buf, lost)
	}
	return s.reportHoles(buf)
}

// moveCursors sets the cursors after placement.after, and the position too unless there is
// a gap. It reports whether that still holds. The caller holds Hub.mu, which is released
// between a few cursors and the next.
func (s *subscription) moveCursors() bool {
	h, p := s.hub, &s.placement
	s.epoch, s.skip = h.epoch, p.after
	s.forgetRound()
	for i := range s.cursors {
		if i > 0 && i%cursorStep == 0 {
			h.mu.Unlock()
			runtime.Gosched()
			h.mu.Lock()
			if s.attention.Load() || s.stage != stagePlaced {
				return false
			}
		}
		c := &s.cursors[i]
		c.next, c.curtail = 0, false
		c.index, c.lost = s.start(i)
	}
	switch {
	case s.beginning && s.position.epoch == unknownEpoch: // until it has begun
	case p.gap:
		s.position = ID{s.epoch, min(p.after, s.end.Load())}
	default:
		position := uint64(0)
		if s.position.epoch == s.epoch {
			position = s.position.seq
		}
		// A subscription that was finished before it had its history ends before after.
		s.position = ID{s.epoch, max(min(p.after, s.end.Load()), position)}
	}
	return true
}

// catchUpCursors moves cursors whose entries were evicted to the oldest that is kept, and
// returns the topics that have lost something. A topic that has lost Last messages of its
// subscription has lost nothing if as many newer ones are kept. The caller holds Hub.mu.
func (s *subscription) catchUpCursors() (lost []string) {
	s.ready = s.ready[:0]
	for i := range s.cursors {
		c := &s.cursors[i]
		few := c.curtail && c.topic.kept() < uint64(min(s.last, s.hub.kept.classOf(c.topic).keep))
		keys := s.keysAreLost(i)
		toBegin := s.begins(i) && !s.state.round.beginning // from what is kept then
		gone := c.lost && c.topic.lost() > s.after(i)      // else a First has come that stands for it
		if (gone || few || keys || s.cursorIsOverrun(i)) && !toBegin {
			lost = append(lost, c.topic.name)
			c.next = 0
		}
		c.lost, c.curtail = false, false
		if first := c.topic.first.Load(); c.index < first {
			c.index, c.next = first, 0
		}
		if c.next != 0 {
			s.ready = append(s.ready, c)
		} else {
			s.markAwake(c)
		}
	}
	heap.Init(&s.ready)
	return lost
}

// reportGap returns a gap in some topics (nil: in all), and fills buf with what follows it. The
// caller holds Hub.mu.
func (s *subscription) reportGap(buf []*Message, topics []string) (int, error) {
	h := s.hub
	h.gaps++
	s.reads = 0
	n, hole := s.fillBeforeHole(buf, min(h.head.Load(), s.end.Load()))
	if s.closed.Load() && n == 0 {
		return 0, ErrClosed
	}
	if hole {
		topics = nil
	}
	gap := &GapError{ID: s.position, Topics: topics}
	if n > 0 && buf[0].ID.seq <= s.position.seq {
		gap.ID.seq = buf[0].ID.seq - 1
	}
	if len(s.pendingHoles()) > 0 {
		s.attention.Store(true)
	}
	return n, gap
}

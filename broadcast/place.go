package broadcast

import (
	"cmp"
	"container/heap"
	"slices"
)

// stage is how far a subscription has come from the position that it resumes from to the
// rings that it reads. [Hub.locate], [Hub.place] and [subscription.adopt] are the only ways
// from one stage to another, but for Close.
//
//	from      to                        when
//	          waiting, reading, placed  Subscribe locates it
//	waiting   reading, placed           the engine has answered
//	reading   placed                    its history has been read
//	reading   waiting                   the journal has a new epoch
//	waiting   waiting, reading, placed  SetTopics locates it anew
//	reading   waiting, reading, placed  SetTopics locates it anew
//	placed    reading, placed           SetTopics locates it anew: not all history was returned
//	placed    live                      Poll adopts the placement
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
	history []*Message

	// gap is set if messages of any topic may have been lost. The next Poll reports and
	// clears it. In stageLive it is set when the journal's tail has lost entries.
	gap bool
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

// locateNew locates a subscription that Subscribe has made. The caller holds mu.
func (h *Hub) locateNew(s *subscription, last int) {
	published := h.follower.published
	switch {
	case !s.from.IsZero():
		h.locate(s)
	case last == 0 && !published.IsZero():
		// The log goes on in an epoch that the tail has still to enter.
		s.from, s.position = published, published
		h.locate(s)
	case last == 0 && h.epoch != 0:
		h.place(s, placement{after: h.newest()})
	case last == 0:
		h.locate(s)
	case h.epoch == 0 || !published.IsZero():
		// There is no newest message yet. It gets all that is kept, after a gap.
		s.from = s.position
		h.locate(s)
	default:
		// After the head, which may be before the newest: the messages that the tail
		// has still to reach follow the Last ones.
		s.pending = s.newestKept(last)
		h.place(s, placement{after: h.head.Load()})
	}
	if s.stage == stagePlaced && !s.placement.gap {
		s.position = ID{h.epoch, s.placement.after}
	}
}

// locate places a subscription by its position, or lets it wait for the engine or for its
// history. The caller holds mu, and wakes the subscription afterwards if it may have been
// polled.
func (h *Hub) locate(s *subscription) {
	switch known := h.knows(s.from); {
	case known && h.Journal != nil && s.isOverrun():
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
// of the log goes on from now; one of another log gets all that is kept. The caller holds
// mu.
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

// isOverrun reports whether rings of the subscription have evicted something that follows
// its position. The caller holds Hub.mu.
func (s *subscription) isOverrun() bool {
	return !s.from.IsZero() && s.evicted() > s.from.seq
}

// evicted returns the highest sequence that any of the subscription's rings has evicted.
// The caller holds Hub.mu.
func (s *subscription) evicted() (seq uint64) {
	for i := range s.cursors {
		seq = max(seq, s.cursors[i].topic.evicted)
	}
	return seq
}

// hasPlacement reports whether the Hub has decided where the subscription goes on. The
// caller holds Hub.mu.
func (s *subscription) hasPlacement() bool { return s.stage == stagePlaced || s.stage == stageLive }

// lose notes that all messages of the Hub's epoch up to seq may be lost. A subscription
// that came from a server further on has seen those up to its placement there, and one that
// has been finished ends before them. The caller holds Hub.mu.
func (s *subscription) lose(seq uint64) {
	if s.hasPlacement() && s.placement.after < seq && s.ending == nil {
		s.placement.gap = true
		s.attention.Store(true)
	}
}

// enterEpoch places a subscription in an epoch that the Hub has just entered: after a gap,
// at the first entry. History that it has not returned yet comes before the gap. The
// caller holds Hub.mu.
func (s *subscription) enterEpoch(start uint64) {
	if s.hasPlacement() {
		s.hub.place(s, placement{gap: true, history: s.placement.history})
	} else {
		s.placement = placement{} // see Hub.begin
	}
	if s.end.Load() != forever {
		s.end.Store(start) // all that was pending was in the epoch before
	}
}

// relocate decides where the subscription goes on when SetTopics has replaced its cursors.
// In stagePlaced there is nothing to do, since adopt sets all of them. The caller holds
// Hub.mu.
func (s *subscription) relocate(old []cursor) {
	p := &s.placement
	if s.stage == stagePlaced && !p.gap && s.from.IsZero() && s.position.epoch == unknownEpoch {
		// It was placed without a gap for the topics that it had.
		p.gap = true
		s.stage = stageWaiting
		s.hub.begin(s)
		return
	}
	if s.stage == stagePlaced && !p.gap && s.position.epoch == s.hub.epoch && s.position.seq < p.after {
		// Not all history has been returned, and it is not of these topics.
		s.from, s.pending = s.position, nil
		s.hub.locate(s)
		return
	}
	if s.stage == stagePlaced && p.gap && !s.only(old) {
		// What the new topics have had in the epoch before is lost, so nothing of that
		// epoch may come any more before the gap.
		p.history = nil
		if !s.pendingIsState() {
			s.pending = nil
		}
	}
	leftOut := func(m *Message) bool { return !s.reads(m.Topic) }
	s.pending = slices.DeleteFunc(s.pending, leftOut)
	p.history = slices.DeleteFunc(p.history, leftOut)
	switch s.stage {
	case stageWaiting, stageReading:
		s.hub.locate(s)
	case stageLive:
		s.inherit(old)
	}
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
	if len(p.history) > 0 {
		s.pending, p.history = p.history, nil
		s.attention.Store(true) // to adopt the rest once the history has been returned
		return 0, nil
	}
	gap := p.gap
	p.gap = false
	var lost []string
	if s.stage == stagePlaced {
		lost = s.moveCursors(gap)
		s.stage = stageLive
	} else {
		lost = s.catchUpCursors()
	}
	switch {
	case gap:
		return s.reportGap(buf, nil)
	case lost != nil:
		return s.reportGap(buf, lost)
	}
	return 0, nil
}

// moveCursors sets the cursors after placement.after, and the position too unless there is
// a gap. It returns the topics that have lost something after that. The caller holds Hub.mu.
func (s *subscription) moveCursors(gap bool) (lost []string) {
	after := s.placement.after
	s.epoch, s.skip = s.hub.epoch, after
	if !gap {
		position := uint64(0)
		if s.position.epoch == s.epoch {
			position = s.position.seq
		}
		// A subscription that was finished before it had its history ends before after.
		s.position = ID{s.epoch, max(min(after, s.end.Load()), position)}
	}
	s.ready = s.ready[:0]
	for i := range s.cursors {
		c := &s.cursors[i]
		c.next, c.lost = nil, false
		var isLost bool
		if c.index, isLost = s.start(i); isLost {
			lost = append(lost, c.topic.name)
		}
		s.markAwake(c)
	}
	return lost
}

// catchUpCursors moves cursors whose entries were evicted to the oldest that is kept, and
// returns the topics that have lost something. The caller holds Hub.mu.
func (s *subscription) catchUpCursors() (lost []string) {
	s.ready = s.ready[:0]
	for i := range s.cursors {
		c := &s.cursors[i]
		if c.lost || s.cursorIsOverrun(i) {
			lost = append(lost, c.topic.name)
			c.next = nil // evicted as well, and older than the loss that is reported now
		}
		c.lost = false
		c.index = max(c.index, c.topic.first.Load())
		if c.next != nil {
			s.ready = append(s.ready, c)
		} else {
			s.markAwake(c)
		}
	}
	heap.Init(&s.ready)
	return lost
}

// reportGap returns a gap in some topics (nil: in all), and fills buf with what follows it.
// The position is then that of the last message, or the head. The caller holds Hub.mu.
func (s *subscription) reportGap(buf []*Message, topics []string) (int, error) {
	h := s.hub
	h.gaps++
	limit := min(h.head.Load(), s.end.Load())
	n, _ := s.collect(buf, limit)
	if s.closed.Load() {
		return 0, ErrClosed
	}
	gap := &GapError{ID: ID{h.epoch, max(limit, min(s.skip, s.end.Load()))}, Topics: topics}
	s.position = gap.ID
	if n > 0 {
		gap.ID.seq = buf[0].ID.seq - 1
		s.position = buf[n-1].ID
	}
	return n, gap
}

// newestKept returns the newest n messages that are kept of each of the subscription's
// topics, not sorted. The caller holds Hub.mu.
func (s *subscription) newestKept(n int) (all []*Message) {
	for i := range s.cursors {
		t := s.cursors[i].topic
		for index := t.next - min(uint64(n), t.kept()); index < t.next; index++ {
			all = append(all, &t.ring.Load().at(index).Load().msg)
		}
	}
	return all
}

func sortBySequence(messages []*Message) {
	slices.SortFunc(messages, func(a, b *Message) int { return cmp.Compare(a.ID.seq, b.ID.seq) })
}

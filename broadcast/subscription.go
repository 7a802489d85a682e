package broadcast

import (
	"errors"
	"math"
	"sync/atomic"
)

// subscription is a [Subscription] of a Hub: a position, and a cursor for each topic.
//
// What wakes it and what Poll needs comes first, close together.
type subscription struct {
	own [1]cursor // the first cursors, of a subscription that began with one topic. Never used again

	// Atomics.
	woken     atomic.Pointer[cursor] // a stack: cursor.wake pushes, Poll claims it whole
	end       atomic.Uint64          // the last sequence to return, or forever; set by Finish, and by the Hub for a new epoch
	armed     atomic.Bool            // the next wake calls notify; set by arm, cleared by wake
	closed    atomic.Bool            // set by Close
	attention atomic.Bool            // the next Poll calls adopt; see below

	// Guarded by Hub.mu, as what follows below, and here for their size.
	stage     stage
	beginning bool // SubscribeOptions.Beginning; set by Subscribe

	reads uint8 // how often it may still read on, see readOn. Owned by the goroutine that polls, and here for its size

	// Set by Subscribe.
	notify func()
	hub    *Hub

	// Owned by the goroutine that polls. The Hub reads cursors and pending as well, so they
	// are replaced with Hub.mu held.
	cursors  []cursor // one for each topic
	ready    bySequence
	awake    []*cursor
	position ID
	epoch    uint64             // of the log that the cursors are on; 0 until the first placement is adopted
	skip     uint64             // placement.after as it was adopted: entries up to it are not returned
	pending  *history           // returned before anything from the rings
	state    *state             // nil until it is needed
	byTopic  map[*topic]*cursor // nil with one topic
	last     int                // SubscribeOptions.Last, if it does not resume. Set by Subscribe

	// Guarded by Hub.mu. attention is set when these have changed; the next Poll applies
	// them before it returns newer messages. So it is set before such a message becomes the
	// head. Poll sets it itself when it finds a loss in a ring, and adopt clears it.
	reader     *reader       // that reads its history; nil if none does
	next, prev *subscription // among the open ones
	from       ID            // where it resumes: SubscribeOptions.After, or Position if SetTopics has located it anew
	placement  placement
	ending     *ending // nil until Finish
}

const forever = math.MaxUint64

var (
	_ Finisher    = (*subscription)(nil)
	_ TopicSetter = (*subscription)(nil)
	_ Skipper     = (*subscription)(nil)
)

// newSubscription opens a subscription. It is among the Hub's from when it is placed, so that
// it misses no loss.
func newSubscription(h *Hub, topics []string, opts SubscribeOptions) (*subscription, error) {
	s := &subscription{hub: h, notify: opts.Notify, from: opts.After, position: opts.After, beginning: opts.Beginning}
	if s.position.IsZero() {
		s.position = ID{epoch: unknownEpoch}
	} else {
		s.reads = maxReads
	}
	s.end.Store(forever)
	if opts.After.IsZero() && !opts.Beginning {
		s.last = opts.Last
	}
	if opts.Beginning {
		s.state = &state{links: make([]link, len(topics))}
		if opts.After.IsZero() {
			s.beginAll()
		}
	}
	opened, live := false, false
	begin := func() error {
		if h.watch.deaf {
			return ErrNotFollowing
		}
		h.subs.add(s)
		opened = true
		if s.last > 0 {
			h.beginWithLast(s)
		}
		return nil
	}
	err := s.openCursors(topics, begin, (*cursor).beginCursorWithLast, func(cursors []cursor) error {
		s.cursors = cursors
		s.sortLastValues()
		h.locateNew(s)
		live = s.stage == stageLive
		return nil
	})
	if err != nil {
		if opened {
			h.mu.Lock()
			h.subs.remove(s)
			h.mu.Unlock()
		}
		return nil, err
	}
	s.indexByTopic()
	if live {
		s.enqueueCursors()
	}
	return s, nil
}

// Position returns the place up to which everything has been returned.
func (s *subscription) Position() ID { return s.position }

// Topics returns the names of the subscription's topics, as the Hub has them: a stream that
// needs the names shares them with the Hub. It belongs to the goroutine that polls.
func (s *subscription) Topics() []string {
	names := make([]string, len(s.cursors))
	for i := range s.cursors {
		names[i] = s.cursors[i].topic.name
	}
	return names
}

// Poll returns pending messages first, then a gap with what follows it, then what the rings
// have. If there is nothing to return it arms Notify, or returns ErrClosed at the end.
func (s *subscription) Poll(buf []*Message) (int, error) {
	if len(buf) == 0 {
		return 0, errors.New("broadcast: Poll needs a buffer for at least one message")
	}
	for !s.closed.Load() {
		if n := s.returnHistory(buf); n > 0 {
			return n, nil
		}
		if s.state != nil {
			if s.state.err != nil {
				return 0, s.state.err
			}
			if n := s.returnLast(buf); n > 0 {
				return n, nil
			}
		}
		// Load the head before attention, which was set before any message up to head that
		// must not be returned yet.
		end, head := s.end.Load(), s.hub.head.Load()
		limit := min(head, end)
		if s.attention.Load() {
			if n, err := s.adopt(buf); n > 0 || err != nil {
				return n, err
			}
			continue
		}
		if s.position.epoch == s.epoch && s.position.seq >= end {
			return 0, ErrClosed // even if something after the end was lost
		}
		n, lost := 0, false
		if s.epoch != 0 {
			n, lost = s.fill(buf, limit)
		}
		switch {
		case n > 0:
			return n, nil
		case s.closed.Load():
			return 0, ErrClosed
		case lost:
			s.attention.Store(true)
			continue
		}
		switch {
		case end != forever && (s.epoch == 0 || head >= end):
			return 0, ErrClosed
		case s.epoch != 0 && s.hub.kept.ended.Load() > 0 && s.haveEnded():
			s.needState().err = ErrEnded
			return 0, ErrEnded
		case s.arm(end):
			if s.epoch != 0 {
				s.reads = 0
			}
			return 0, nil
		}
	}
	return 0, ErrClosed
}

// PollAndArm is Poll. That it has armed says that nothing is left and that Notify is armed, as
// after an empty Poll, which is saved. Nothing may be left also where it has not. It has never
// armed when buf is full.
func (s *subscription) PollAndArm(buf []*Message) (n int, armed bool, err error) {
	n, err = s.Poll(buf)
	switch {
	case n == 0 || err != nil:
		return n, n == 0 && err == nil, err
	case n == len(buf) || !s.isPlain() || !s.arm(forever):
		return n, false, nil
	}
	s.reads = 0
	return n, true, nil
}

// isPlain reports whether what the next Poll returns can only be what arm looks for: it is
// neither history, nor of a round that is under way, nor ErrEnded.
func (s *subscription) isPlain() bool {
	return s.epoch != 0 && s.state == nil && s.pending == nil && len(s.ready) == 0 &&
		(s.hub.kept.ended.Load() == 0 || !s.haveEnded())
}

// returnHistory fills buf with history, up to where the subscription ends.
func (s *subscription) returnHistory(buf []*Message) (n int) {
	if s.pending == nil {
		return 0
	}
	if n = s.pending.take(buf, s.end.Load()); n > 0 {
		s.position = buf[n-1].ID
	}
	return n
}

// arm lets the next wake call Notify, and reports whether it did. It does not if there is
// something to return after all.
func (s *subscription) arm(end uint64) bool {
	if s.epoch != 0 {
		if s.sleepCursors(); len(s.awake) > 0 {
			return false
		}
	}
	s.armed.Store(true)
	// News that arrived before armed was set has not called Notify: check once more. If
	// armed is no longer set, a wake has called it meanwhile. Without a placement cursors may
	// be woken, but are not read: they are no news until there is one.
	if s.epoch != 0 && s.woken.Load() != nil || s.attention.Load() || s.end.Load() != end || s.closed.Load() {
		return !s.armed.CompareAndSwap(true, false)
	}
	return true
}

// Skip lets the subscription go on after what is the newest entry now.
func (s *subscription) Skip() ID {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if !s.hasPlacement() || s.closed.Load() {
		return s.position // it is still to be placed, and gets a gap then if it has lost something
	}
	s.dropHistory()
	s.leaveBeginning()
	newest := h.newest()
	h.place(s, placement{after: newest})
	at := ID{h.epoch, min(newest, s.end.Load())}
	if s.position.epoch == at.epoch {
		at.seq = max(at.seq, s.position.seq)
	}
	if s.position = at; s.amongLast() {
		s.state = nil
	}
	return at
}

// wake calls Notify if the last Poll was empty and no wake has called it since. The caller
// holds no lock.
func (s *subscription) wake() {
	s.hub.guard(inNotify, func() error {
		s.callNotify()
		return nil
	})
}

// callNotify is wake for a caller that guards it.
func (s *subscription) callNotify() {
	if s.armed.Swap(false) && s.notify != nil {
		s.notify()
	}
}

const inNotify = "a subscriber's Notify"

// Close ends the subscription. Nothing of the Hub leads to it afterwards, so that it goes, and
// what its Notify holds, as soon as the caller forgets it.
func (s *subscription) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	h := s.hub
	h.mu.Lock()
	s.stage = stageEnded
	h.subs.remove(s)
	h.resolver.remove(s)
	h.historian.remove(s)
	s.pending.drop()
	s.placement.history.drop()
	cursors := s.cursors
	h.mu.Unlock()
	h.releaseCursors(cursors)
	return nil
}

// subscriptions is the list of those that are open, linked through them, so that it does not
// keep the size of its peak. It is guarded by Hub.mu.
type subscriptions struct {
	first *subscription
	count int
}

func (l *subscriptions) add(s *subscription) {
	if s.next = l.first; s.next != nil {
		s.next.prev = s
	}
	l.first = s
	l.count++
}

func (l *subscriptions) remove(s *subscription) {
	if s.prev == nil {
		l.first = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
	l.count--
}

// all lists them, for work on each without Hub.mu.
func (l *subscriptions) all() []*subscription {
	subs := make([]*subscription, 0, l.count)
	for s := l.first; s != nil; s = s.next {
		subs = append(subs, s)
	}
	return subs
}

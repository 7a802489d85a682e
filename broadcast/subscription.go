package broadcast

import (
	"errors"
	"math"
	"sync/atomic"
	"time"
)

// subscription is a [Subscription] of a Hub: a position, and a cursor for each topic.
type subscription struct {
	// Set by Subscribe.
	hub    *Hub
	notify func()

	// Owned by the goroutine that polls. The Hub reads cursors and byTopic as well, so
	// SetTopics holds Hub.mu when it replaces them.
	cursors  []cursor           // one for each topic
	byTopic  map[*topic]*cursor // nil with one topic
	ready    bySequence
	awake    []*cursor
	position ID
	epoch    uint64     // of the log that the cursors are on; 0 until the first placement is adopted
	skip     uint64     // placement.after as it was adopted: entries up to it are not returned
	pending  []*Message // returned before anything from the rings: Last messages or history

	// Atomics.
	woken     atomic.Pointer[cursor] // a stack: cursor.wake pushes, Poll claims it whole
	end       atomic.Uint64          // the last sequence to return, or forever; set by Finish, and by the Hub for a new epoch
	armed     atomic.Bool            // the next wake calls notify; set by an empty Poll, cleared by wake
	closed    atomic.Bool            // set by Close
	attention atomic.Bool            // the next Poll calls adopt; see below

	// Guarded by Hub.mu. attention is set when these have changed; the next Poll applies
	// them before it returns newer messages. So it is set before such a message becomes the
	// head. Poll sets it itself when it finds a loss in a ring, and adopt clears it.
	stage     stage
	from      ID // where it resumes: SubscribeOptions.After, or Position if SetTopics has located it anew
	placement placement
	ending    *ending // nil until Finish
}

const forever = math.MaxUint64

var (
	_ Finisher    = (*subscription)(nil)
	_ TopicSetter = (*subscription)(nil)
)

// newSubscription makes a subscription that is still to be located. The caller holds
// Hub.mu.
func newSubscription(h *Hub, topics []string, opts SubscribeOptions) *subscription {
	s := &subscription{hub: h, notify: opts.Notify, from: opts.After, position: opts.After}
	if s.position.IsZero() {
		s.position = ID{epoch: unknownEpoch}
	}
	s.end.Store(forever)
	s.openCursors(topics)
	return s
}

// Position returns the place up to which everything has been returned.
func (s *subscription) Position() ID { return s.position }

// Poll returns pending messages first, then a gap with what follows it, then what the rings
// have. If there is nothing to return it arms Notify, or returns ErrClosed at the end.
func (s *subscription) Poll(buf []*Message) (int, error) {
	if len(buf) == 0 {
		return 0, errors.New("broadcast: Poll needs a buffer for at least one message")
	}
	for !s.closed.Load() {
		if n := s.returnPending(buf); n > 0 {
			return n, nil
		}
		// Load the head before attention, which was set before any message up to head that
		// must not be returned yet.
		end, head := s.end.Load(), s.hub.head.Load()
		limit := min(head, end)
		if s.attention.Load() {
			if n, err := s.adopt(buf); err != nil {
				return n, err
			}
			continue
		}
		if s.position.epoch == s.epoch && s.position.seq >= end {
			return 0, ErrClosed // even if something after the end was lost
		}
		n, lost := 0, false
		if s.epoch != 0 {
			n, lost = s.collect(buf, limit)
		}
		switch {
		case s.closed.Load():
			// The cursors of a closed subscription are not woken, so an older message may
			// be missing: the position stays before it.
			return 0, ErrClosed
		case n > 0:
			s.position = buf[n-1].ID
			return n, nil
		case lost:
			s.attention.Store(true)
			continue
		}
		if s.epoch != 0 && s.position.seq < limit {
			s.position.seq = limit
		}
		switch {
		case end != forever && (s.epoch == 0 || head >= end):
			return 0, ErrClosed
		case s.arm(end):
			return 0, nil
		}
	}
	return 0, ErrClosed
}

// returnPending fills buf with pending messages. Those up to the position are Last
// messages: they do not move it, and are returned even if the subscription has been
// finished. The others are history: they move it, and end where the subscription ends.
func (s *subscription) returnPending(buf []*Message) (n int) {
	if len(s.pending) == 0 {
		return 0
	}
	end, last := s.end.Load(), s.pendingIsState()
	if last {
		end = forever
	}
	for n < len(buf) && n < len(s.pending) && s.pending[n].ID.seq <= end {
		buf[n] = s.pending[n]
		s.pending[n] = nil
		n++
	}
	if s.pending = s.pending[n:]; n == 0 || len(s.pending) == 0 {
		s.pending = nil
	}
	if n > 0 && !last {
		s.position = buf[n-1].ID
	}
	return n
}

// pendingIsState reports whether the pending messages are Last messages, if there are any.
func (s *subscription) pendingIsState() bool {
	return len(s.pending) > 0 && s.pending[0].ID.seq <= s.position.seq
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
	// armed is no longer set, a wake has called it meanwhile.
	if s.woken.Load() != nil || s.attention.Load() || s.end.Load() != end || s.closed.Load() {
		return !s.armed.CompareAndSwap(true, false)
	}
	return true
}

// wake calls Notify if the last Poll was empty and no wake has called it since. The caller
// holds no lock.
func (s *subscription) wake() {
	if s.armed.Swap(false) && s.notify != nil {
		s.hub.guard("a subscriber's Notify", func() error {
			s.notify()
			return nil
		})
	}
}

// Close ends the subscription.
func (s *subscription) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	h, now := s.hub, time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	s.stage = stageEnded
	delete(h.subs, s)
	delete(h.resolver.waiting, s)
	delete(h.historian.waiting, s)
	h.releaseCursors(s.cursors, now)
	return nil
}

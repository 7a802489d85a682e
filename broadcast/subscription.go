package broadcast

import (
	"cmp"
	"container/heap"
	"errors"
	"math"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"
)

// subscription is a [Subscription] of a Hub: a position, and a link for each
// topic. Where nothing else is said its fields belong to the goroutine that
// polls.
type subscription struct {
	hub    *Hub
	notify func()

	links    []link
	byTopic  map[*topic]*link // nil with one topic
	ready    byNext
	awake    []*link
	position ID
	epoch    uint64     // of the log that the links are on; 0: not placed yet
	skip     uint64     // nothing up to here is returned: the client is ahead of the tail
	owed     []*Message // comes before what the links have

	woken  atomic.Pointer[link] // links that others have woken
	armed  atomic.Bool          // the next wake calls notify
	closed atomic.Bool
	end    atomic.Uint64 // the last sequence to return; forever if there is none

	// attention tells the next Poll to look at what stands below, which belongs
	// to Hub.mu. It is set before the messages that this must precede.
	attention atomic.Bool
	from      ID          // SubscribeOptions.After
	placed    bool        // the Hub knows where the subscription goes on:
	after     uint64      // behind this sequence,
	gap       bool        // after a gap in all topics
	last      bool        // owed are the Last messages, from before the position
	history   *[]*Message // becomes owed; nil if nothing does
}

const forever = math.MaxUint64

var (
	_ Finisher    = (*subscription)(nil)
	_ TopicSetter = (*subscription)(nil)
)

// newSubscription makes a subscription that is not placed. The caller holds
// Hub.mu.
func newSubscription(h *Hub, topics []string, opts SubscribeOptions) *subscription {
	s := &subscription{hub: h, notify: opts.Notify, from: opts.After, position: opts.After}
	if s.position.IsZero() {
		s.position = ID{epoch: unknownEpoch}
	}
	s.end.Store(forever)
	s.link(topics)
	return s
}

func (s *subscription) several() bool { return len(s.links) > 1 }

// goOn places the subscription behind a sequence of the hub's epoch, after a gap
// if so. The caller holds Hub.mu, and wakes it afterwards if it is polled already.
func (s *subscription) goOn(after uint64, gap bool) {
	s.placed, s.after, s.gap = true, after, gap
	s.attention.Store(true)
}

// owe lets the subscription begin with the newest n messages of each topic.
func (s *subscription) owe(n int) {
	s.last = true
	for i := range s.links {
		t := s.links[i].topic
		for index := t.next - min(uint64(n), t.kept()); index < t.next; index++ {
			s.owed = append(s.owed, &t.ring.Load().at(index).Load().msg)
		}
	}
}

func (s *subscription) sortOwed() {
	slices.SortFunc(s.owed, func(a, b *Message) int {
		return cmp.Compare(a.ID.seq, b.ID.seq)
	})
}

func (s *subscription) Position() ID { return s.position }

func (s *subscription) Poll(buf []*Message) (int, error) {
	if len(buf) == 0 {
		return 0, errors.New("broadcast: Poll needs room for at least one message")
	}
	for !s.closed.Load() {
		if n := s.pay(buf); n > 0 {
			return n, nil
		}
		// The head first: all that must be known before its message is returned
		// is in place by then.
		end, head := s.end.Load(), s.hub.head.Load()
		if s.attention.Load() {
			if n, err := s.attend(buf); err != nil {
				return n, err
			}
			continue
		}
		if s.position.epoch == s.epoch && s.position.seq >= end {
			return 0, ErrClosed // what may be lost behind the end was not owed
		}
		limit := min(head, end)
		n, lost := 0, false
		if s.epoch != 0 {
			n, lost = s.collect(buf, limit)
		}
		if s.closed.Load() {
			// Nobody wakes a closed subscription's links, so that something older
			// may be missing: the position stays before it.
			return 0, ErrClosed
		}
		switch {
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
		if end != forever && (s.epoch == 0 || head >= end) {
			return 0, ErrClosed
		}
		if s.sleep(end) {
			return 0, nil
		}
	}
	return 0, ErrClosed
}

// pay fills buf with what is owed from before the links' place.
func (s *subscription) pay(buf []*Message) (n int) {
	if len(s.owed) == 0 {
		return 0
	}
	end := s.end.Load()
	if s.last {
		end = forever // they are no part of what the end is the end of
	}
	for n < len(buf) && n < len(s.owed) && s.owed[n].ID.seq <= end {
		buf[n] = s.owed[n]
		s.owed[n] = nil
		n++
	}
	if s.owed = s.owed[n:]; n == 0 || len(s.owed) == 0 {
		s.owed = nil
	}
	if n > 0 && !s.last {
		s.position = buf[n-1].ID
	}
	return n
}

// collect fills buf with what the links have up to limit, merged by sequence.
// It reports whether a link has lost something: whatever is in buf comes before
// that.
func (s *subscription) collect(buf []*Message, limit uint64) (n int, lost bool) {
	// A link may have news that nobody has woken it for yet. With one topic that is
	// quickly seen; else the waker knows, and is asked before the woken ones, since
	// a link may just be on its way there.
	if s.several() {
		s.hub.waker.each(s, s.stir)
	} else {
		s.stir(&s.links[0])
	}
	for l := s.woken.Swap(nil); l != nil; {
		next := l.woken
		l.woken, l.asleep = nil, false
		if !l.gone.Load() {
			s.stir(l)
		}
		l = next
	}
	awake := s.awake[:0]
	for _, l := range s.awake {
		e, gone := l.look(limit)
		lost = lost || gone
		if e == nil {
			awake = append(awake, l)
			continue
		}
		l.awake, l.held = false, e
		heap.Push(&s.ready, l)
	}
	clear(s.awake[len(awake):])
	s.awake = awake
	if lost {
		return 0, true
	}
	for n < len(buf) && len(s.ready) > 0 && !lost {
		l := s.ready[0]
		if l.held.msg.ID.seq > limit {
			break
		}
		buf[n] = &l.held.msg
		n++
		if l.held, lost = l.look(limit); l.held != nil {
			heap.Fix(&s.ready, 0)
			continue
		}
		heap.Pop(&s.ready)
		s.stir(l)
	}
	if s.several() {
		// Let them sleep at once: so Poll looks at no more links than there are
		// messages, however long the subscription stays awake.
		s.rest()
	}
	return n, lost
}

// stir puts a link among those to look at.
func (s *subscription) stir(l *link) {
	if l.held == nil && !l.awake {
		l.awake = true
		s.awake = append(s.awake, l)
	}
}

// rest lets links without news sleep on their topics.
func (s *subscription) rest() {
	awake := s.awake[:0]
	for _, l := range s.awake {
		if !l.asleep {
			l.asleep = true
			l.topic.sleep(l)
		}
		// A message that came before the link was in the list has woken nobody.
		if l.hasNews() {
			awake = append(awake, l)
			continue
		}
		l.awake = false
	}
	clear(s.awake[len(awake):])
	s.awake = awake
}

// sleep arms Notify, and reports whether it did: not if there is something to
// return after all.
func (s *subscription) sleep(end uint64) bool {
	if s.epoch != 0 {
		if s.rest(); len(s.awake) > 0 {
			return false
		}
	}
	s.armed.Store(true)
	// What came before that has called nobody, unless it took the arming away again.
	if s.woken.Load() != nil || s.attention.Load() || s.end.Load() != end || s.closed.Load() {
		return !s.armed.CompareAndSwap(true, false)
	}
	return true
}

// attend takes over what the hub has found out about the subscription, under
// its lock, so that nothing is evicted meanwhile. Where something was lost it
// fills buf with what follows the loss.
func (s *subscription) attend(buf []*Message) (int, error) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.attention.Store(false)
	if !s.placed {
		return 0, nil
	}
	if s.history != nil {
		s.owed, s.history = *s.history, nil
		s.attention.Store(true) // for the rest, when they are paid
		return 0, nil
	}
	all := s.gap
	s.gap = false
	moved := s.epoch != h.epoch
	if moved {
		s.epoch, s.skip = h.epoch, s.after
		if !all {
			// Not behind the end of a subscription that was to end before it had its history.
			s.position = ID{h.epoch, max(min(s.after, s.end.Load()), s.positionIn(h.epoch))}
		}
	}
	var topics []string
	s.ready = s.ready[:0]
	for i := range s.links {
		l := &s.links[i]
		t := l.topic
		if moved {
			l.held, l.index = nil, t.behind(s.after)
		}
		lost := moved && t.evicted > s.after || !moved && l.lost || l.index < t.first.Load() && t.evicted > s.skip
		if l.lost = false; lost {
			topics = append(topics, t.name)
			l.held = nil // it is gone from the ring too, and came before the loss that is told now
		}
		l.index = max(l.index, t.first.Load())
		if s.stir(l); l.held != nil {
			s.ready = append(s.ready, l)
		}
	}
	heap.Init(&s.ready)
	if !all && topics == nil {
		return 0, nil
	}
	if all {
		topics = nil
	}
	h.gaps++
	limit := min(h.head.Load(), s.end.Load())
	n, _ := s.collect(buf, limit)
	if s.closed.Load() {
		return 0, ErrClosed
	}
	gap := &GapError{ID: ID{h.epoch, max(limit, s.skip)}, Topics: topics}
	s.position = gap.ID
	if n > 0 {
		gap.ID.seq = buf[0].ID.seq - 1
		s.position = buf[n-1].ID
	}
	return n, gap
}

// positionIn returns the sequence of the position, if that is in an epoch.
func (s *subscription) positionIn(epoch uint64) uint64 {
	if s.position.epoch != epoch {
		return 0
	}
	return s.position.seq
}

// Finish lets the subscription end at what is the head now.
func (s *subscription) Finish() {
	s.hub.mu.Lock()
	s.end.CompareAndSwap(forever, s.hub.head.Load())
	s.hub.mu.Unlock()
	s.wake()
}

// wake calls Notify if the last Poll was empty and nobody has called it since.
func (s *subscription) wake() {
	if !s.armed.Swap(false) || s.notify == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			s.hub.logger().Error("broadcast: panic in a subscriber's Notify", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	s.notify()
}

func (s *subscription) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	h, now := s.hub, time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
	delete(h.follower.waiting, s)
	delete(h.follower.behind, s)
	s.unlink(s.links, now)
	return nil
}

package broadcast

import (
	"container/heap"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// link is a subscription's cursor on one topic. It is in one of these places:
//
//   - ready: it holds the next message to return;
//   - awake: it may have news, and is to be looked at;
//   - else it sleeps on its topic, and a message there brings it back by way of
//     the subscription's woken list.
//
// A sleeping link may be found ready by other means meanwhile; asleep says that
// it still is in its topic's list, or on the way from there.
type link struct {
	sub    *subscription
	topic  *topic
	index  uint64 // of the next entry to look for, in the topic's ring
	held   *entry // the next to return: no longer at risk of being overrun
	awake  bool   // in subscription.awake
	asleep bool
	lost   bool        // the topic has lost something that comes behind the position
	gone   atomic.Bool // the subscription has other links now, or none
	woken  *link       // the next in subscription.woken
}

// wake says that there is news for the link. Anyone may call it for a link they
// took from its topic's sleepers.
func (l *link) wake() {
	s := l.sub
	if l.gone.Load() {
		return
	}
	for {
		l.woken = s.woken.Load()
		if s.woken.CompareAndSwap(l.woken, l) {
			break
		}
	}
	s.wake()
}

// link makes links to topics. The caller holds Hub.mu.
func (s *subscription) link(topics []string) {
	s.links, s.byTopic = make([]link, len(topics)), nil
	if s.several() {
		s.byTopic = make(map[*topic]*link, len(topics))
	}
	for i, name := range topics {
		t := s.hub.kept.topic(name)
		s.hub.kept.pin(t)
		l := &s.links[i]
		l.sub, l.topic = s, t
		if s.several() {
			s.byTopic[t] = l
		}
	}
}

// unlink lets go of links. The caller holds Hub.mu.
func (s *subscription) unlink(links []link, now time.Time) {
	for i := range links {
		links[i].gone.Store(true)
		s.hub.kept.unpin(links[i].topic, now)
	}
}

// SetTopics gives the subscription other topics, from Position on: those that are new
// are resumed behind it.
func (s *subscription) SetTopics(topics []string) error {
	names, err := distinct(topics)
	if err != nil {
		return fmt.Errorf("broadcast: SetTopics: %w", err)
	}
	if err := s.setTopics(names); err != nil {
		return err
	}
	s.wake() // whoever waits has not looked at what is new
	return nil
}

func (s *subscription) setTopics(names []string) error {
	h, now := s.hub, time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed.Load() {
		return ErrClosed
	}
	if err := h.use(now); err != nil {
		return err
	}
	before := s.links
	s.link(names)
	s.unlink(before, now)
	s.ready, s.awake = nil, nil
	if s.placed && s.epoch == 0 && !s.gap && s.position.epoch == h.epoch && s.position.seq < s.after {
		// What was read for it, up to there, is not of these topics.
		s.from, s.placed, s.history, s.owed = s.position, false, nil, nil
	}
	left := func(m *Message) bool { return !slices.Contains(names, m.Topic) }
	if s.owed = slices.DeleteFunc(s.owed, left); s.history != nil {
		*s.history = slices.DeleteFunc(*s.history, left)
	}
	switch {
	case !s.placed:
		h.locate(s)
		return nil
	case s.epoch == 0 || s.epoch != h.epoch:
		return nil // attend places all links
	}
	old := make(map[*topic]*link, len(before))
	for i := range before {
		old[before[i].topic] = &before[i]
	}
	for i := range s.links {
		l := &s.links[i]
		if o := old[l.topic]; o != nil {
			l.index, l.held, l.lost = o.index, o.held, o.lost
		} else {
			l.index, l.lost = l.topic.behind(s.position.seq), l.topic.evicted > s.position.seq
		}
		if l.lost {
			s.attention.Store(true)
		}
		if s.stir(l); l.held != nil {
			s.ready = append(s.ready, l)
		}
	}
	heap.Init(&s.ready)
	return nil
}

// look returns the link's next entry up to limit and steps behind it, or nil if
// there is none yet. It reports whether entries have been lost before that.
func (l *link) look(limit uint64) (e *entry, lost bool) {
	for {
		r := l.topic.ring.Load()
		if r == nil {
			return nil, false
		}
		e := r.at(l.index).Load()
		switch {
		case e == nil || e.index < l.index:
			return nil, l.topic.first.Load() > l.index
		case e.index > l.index || e.msg.ID.epoch != l.sub.epoch:
			return nil, true
		case e.msg.ID.seq > limit:
			return nil, false
		}
		l.index++
		if e.msg.ID.seq > l.sub.skip {
			return e, false
		}
	}
}

// hasNews reports whether look would find something now, without stepping.
func (l *link) hasNews() bool {
	index := l.index
	e, lost := l.look(min(l.sub.hub.head.Load(), l.sub.end.Load()))
	l.index = index
	return e != nil || lost
}

// byNext is a heap of links by the sequence of what they hold.
type byNext []*link

func (b byNext) Len() int           { return len(b) }
func (b byNext) Less(i, j int) bool { return b[i].held.msg.ID.seq < b[j].held.msg.ID.seq }
func (b byNext) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b *byNext) Push(l any)        { *b = append(*b, l.(*link)) }
func (b *byNext) Pop() any {
	last := len(*b) - 1
	l := (*b)[last]
	(*b)[last] = nil
	*b = (*b)[:last]
	return l
}

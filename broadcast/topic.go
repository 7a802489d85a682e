package broadcast

import (
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// entry is a kept message. It stands in its topic's ring and in the list of all kept
// messages.
type entry struct {
	msg          Message
	topic        *topic
	index        uint64 // in the topic's ring
	older, newer *entry // among all kept messages
}

// ring has an entry at its index modulo the ring's size, which is a power of two. Polls
// read it without a lock: the index of the entry that they find says whether it is the
// one that they want.
type ring []atomic.Pointer[entry]

func (r ring) at(index uint64) *atomic.Pointer[entry] { return &r[index&uint64(len(r)-1)] }

// topic is a ring of messages, and the cursors that sleep until the next one.
type topic struct {
	name string // set when the topic is made

	// Written under Hub.mu, read by Polls without it.
	ring  atomic.Pointer[ring]  // nil while it has no message
	first atomic.Uint64         // index of the oldest kept entry
	table atomic.Pointer[table] // nil until it has a Key

	// Guarded by Hub.mu.
	next         uint64        // index that the next entry will have
	evicted      uint64        // the highest sequence of the events that it has lost since the newest First: a position before that has a gap
	floor        uint64        // the highest sequence up to which nothing at all is known of it: a position before that has a gap
	used         time.Duration // when it was last published to, or lost its last cursor; since retention.began
	older, newer *topic        // among the unused topics
	cursors      int32         // of open subscriptions; they pin the topic
	class        uint16        // what is kept of it, among classes.all
	isUnused     bool          // it is among the unused topics; never while it has a cursor

	// hasEnded is set from an event with End until the next First. It is written under Hub.mu,
	// after the event is in the ring, and read by Polls without it.
	hasEnded atomic.Bool

	// Guarded by mu, which is locked after Hub.mu.
	mu       sync.Mutex
	round    uint32     // of the cursors that fall asleep now; each message begins another
	sleepers cursorList // the cursors of this round
	waking   cursorList // those of earlier rounds that are still to be woken
}

// kept returns how many messages the ring has.
func (t *topic) kept() uint64 { return t.next - t.first.Load() }

// newest returns the highest sequence that the topic has ever had, as far as it is known.
func (t *topic) newest() uint64 {
	seq := max(t.evicted, t.floor)
	if e := t.newestEvent(); e != nil {
		seq = e.msg.ID.seq
	}
	if tb := t.table.Load(); tb != nil {
		seq = max(seq, tb.newest.Load())
	}
	return seq
}

// intern replaces the names of a message by those that the topic has already. Names from a
// request may be parts of its URL, which they would pin as a whole. The caller holds Hub.mu.
func (t *topic) intern(m *Message) {
	m.Topic, m.From = t.name, strings.Clone(m.From)
	if m.Key == "" && m.Type == "" {
		return
	}
	var before *entry
	if m.Key == "" {
		before = t.newestEvent()
	} else if before = t.table.Load().find(m.Key); before != nil {
		m.Key = before.msg.Key
	} else {
		m.Key = strings.Clone(m.Key)
	}
	if before != nil && before.msg.Type == m.Type {
		m.Type = before.msg.Type
	} else {
		m.Type = strings.Clone(m.Type)
	}
}

// newestEvent returns the newest entry of the ring, or nil. The caller holds Hub.mu.
func (t *topic) newestEvent() *entry {
	if t.kept() == 0 {
		return nil
	}
	return t.ring.Load().at(t.next - 1).Load()
}

// isEmpty reports whether it has no message. The caller holds Hub.mu.
func (t *topic) isEmpty() bool { return t.kept() == 0 && t.table.Load().isEmpty() }

// lost returns the highest sequence that it has lost, of events or of Keys: a position before
// that has a gap. The caller holds Hub.mu.
func (t *topic) lost() uint64 {
	seq := max(t.evicted, t.floor)
	if tb := t.table.Load(); tb != nil {
		lost := tb.evicted()
		seq = max(seq, lost.value, lost.removal)
	}
	return seq
}

// startedAt returns the sequence of the First with which the kept events begin; 0 if they do not.
// The caller holds Hub.mu.
func (t *topic) startedAt() uint64 {
	if t.kept() == 0 {
		return 0
	}
	if e := t.ring.Load().at(t.first.Load()).Load(); e.msg.First {
		return e.msg.ID.seq
	}
	return 0
}

// isPartial reports whether a topic lacks something that a beginning should have: it has lost an
// event since the newest First, or the tail has, or the value of a Key. The caller holds mu.
func (h *Hub) isPartial(t *topic) bool {
	tb := t.table.Load()
	return t.evicted > 0 || h.holes.last() > t.startedAt() || tb != nil && tb.missing.any()
}

// push inserts e as the newest entry. Rings start empty and double, so that a topic with
// few messages stays small.
func (t *topic) push(e *entry) {
	e.topic, e.index = t, t.next
	if r := t.ring.Load(); r == nil || t.kept() == uint64(len(*r)) {
		t.resize(max(1, 2*t.kept()))
	}
	t.ring.Load().at(e.index).Store(e)
	t.next++
}

// resize moves the kept entries to a ring of another size.
func (t *topic) resize(size uint64) {
	old, resized := t.ring.Load(), make(ring, size)
	for i := t.first.Load(); i < t.next; i++ {
		resized.at(i).Store(old.at(i).Load())
	}
	t.ring.Store(&resized)
}

// shrink makes a ring smaller that has become nearly empty.
func (t *topic) shrink() {
	switch r := t.ring.Load(); {
	case r == nil:
	case t.kept() == 0:
		t.ring.Store(nil)
	case t.kept() <= uint64(len(*r))/4:
		t.resize(uint64(len(*r)) / 2)
	}
}

// evict removes the oldest entry and returns it.
func (t *topic) evict() *entry {
	index := t.first.Load()
	slot := t.ring.Load().at(index)
	e := slot.Load()
	t.evicted = max(t.evicted, e.msg.ID.seq)
	// In this order: a Poll that finds the slot empty then reads first, to learn whether
	// the entry was evicted or has not been published yet.
	t.first.Store(index + 1)
	slot.Store(nil)
	return e
}

// indexAfter returns the index of the first kept entry after seq.
func (t *topic) indexAfter(seq uint64) uint64 {
	first, r := t.first.Load(), t.ring.Load()
	return first + uint64(sort.Search(int(t.kept()), func(i int) bool {
		return r.at(first+uint64(i)).Load().msg.ID.seq > seq
	}))
}

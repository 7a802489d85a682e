package broadcast

import (
	"sort"
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
	ring  atomic.Pointer[ring] // nil while it has no message
	first atomic.Uint64        // index of the oldest kept entry

	// Guarded by Hub.mu.
	typ          string        // Type of the newest message, to share it with the next
	next         uint64        // index that the next entry will have
	evicted      uint64        // the highest sequence that it has lost: a position before that has a gap
	used         time.Duration // when it was last published to, or lost its last cursor; since retention.began
	older, newer *topic        // among the unused topics
	cursors      int32         // of open subscriptions; they pin the topic
	isUnused     bool          // it is among the unused topics; never while it has a cursor

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
	if t.kept() == 0 {
		return t.evicted
	}
	return t.ring.Load().at(t.next - 1).Load().msg.ID.seq
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

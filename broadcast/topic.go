package broadcast

import (
	"container/list"
	"slices"
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
	ring  atomic.Pointer[ring] // nil until the first message
	first atomic.Uint64        // index of the oldest kept entry

	// Guarded by Hub.mu.
	typ     string        // Type of the newest message, to share it with the next
	next    uint64        // index that the next entry will have
	evicted uint64        // the highest sequence that it has lost: a position before that has a gap
	cursors int           // of open subscriptions; they pin the topic
	unused  *list.Element // among the topics without cursors; nil while it has one
	used    time.Time     // when it was last published to, or lost its last cursor

	// Guarded by mu, which is locked after Hub.mu.
	mu       sync.Mutex
	sleepers []*cursor
	spare    []*cursor // an emptied list to use again
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
	r := t.ring.Load()
	if r == nil || t.kept() == uint64(len(*r)) {
		grown := make(ring, max(1, 2*t.kept()))
		for i := t.first.Load(); i < t.next; i++ {
			grown.at(i).Store(r.at(i).Load())
		}
		r = &grown
		t.ring.Store(r)
	}
	r.at(e.index).Store(e)
	t.next++
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

// sleep adds a cursor to those that the next message wakes.
func (t *topic) sleep(c *cursor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.sleepers) == cap(t.sleepers) {
		// Before the list grows, remove released cursors: those of clients that come and
		// go on a silent topic must not pile up.
		t.sleepers = removeReleased(t.sleepers)
		if len(t.sleepers) > cap(t.sleepers)/2 {
			// Grow all the same, or each client that comes and goes would cost a pass.
			t.sleepers = slices.Grow(t.sleepers, cap(t.sleepers))
		}
	}
	t.sleepers = append(t.sleepers, c)
}

func removeReleased(cursors []*cursor) []*cursor {
	return slices.DeleteFunc(cursors, func(c *cursor) bool { return c.released.Load() })
}

// dequeueSleepers hands over the list of sleepers. Once they are awake, recycle returns
// the list to be filled again.
func (t *topic) dequeueSleepers() []*cursor {
	t.mu.Lock()
	defer t.mu.Unlock()
	sleepers := t.sleepers
	t.sleepers, t.spare = t.spare, nil
	return sleepers
}

func (t *topic) recycle(sleepers []*cursor) {
	clear(sleepers)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.spare == nil {
		t.spare = sleepers[:0]
	}
}

package broadcast

import (
	"container/list"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// entry is a kept message in its two places: its topic's ring and the log.
type entry struct {
	msg          Message
	topic        *topic
	index        uint64 // in the topic's ring
	older, newer *entry // in the log
}

// ring holds an entry at its index modulo the ring's size, a power of two.
// Polls read it without a lock; the entry's own index tells whether it is the
// one that was wanted.
type ring []atomic.Pointer[entry]

func (r ring) at(index uint64) *atomic.Pointer[entry] { return &r[index&uint64(len(r)-1)] }

// topic is a ring of messages, and the links that sleep until the next one.
// What is written is written under Hub.mu; ring and first are read by Polls
// without it.
type topic struct {
	typ     string // of the newest message, for the next
	name    string
	ring    atomic.Pointer[ring] // nil until the first message
	first   atomic.Uint64        // index of the oldest kept entry
	next    uint64               // index of the next entry to come
	evicted uint64               // the highest sequence gone from it: a cursor before that has lost something
	links   int                  // of open subscriptions; they pin the topic

	unused *list.Element // among the topics without links; nil while it has one
	used   time.Time     // when it was last published to, or lost its last link

	mu       sync.Mutex // guards what follows
	sleepers []*link
	spare    []*link // an emptied list to use again
}

// kept returns how many messages the ring holds.
func (t *topic) kept() uint64 { return t.next - t.first.Load() }

// newest returns the highest sequence that the topic ever held, as far as known.
func (t *topic) newest() uint64 {
	if t.kept() == 0 {
		return t.evicted
	}
	return t.ring.Load().at(t.next - 1).Load().msg.ID.seq
}

// push inserts e as the newest entry. Rings start empty and double, so that a
// topic which says little stays small.
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

// evict lets go of the oldest entry and returns it.
func (t *topic) evict() *entry {
	index := t.first.Load()
	slot := t.ring.Load().at(index)
	e := slot.Load()
	t.evicted = max(t.evicted, e.msg.ID.seq)
	// In this order: a Poll that finds the slot empty looks at first to learn
	// whether the entry is gone or has not come yet.
	t.first.Store(index + 1)
	slot.Store(nil)
	return e
}

// behind returns the index of the first kept entry behind seq.
func (t *topic) behind(seq uint64) uint64 {
	first, r := t.first.Load(), t.ring.Load()
	return first + uint64(sort.Search(int(t.kept()), func(i int) bool {
		return r.at(first+uint64(i)).Load().msg.ID.seq > seq
	}))
}

// sleep adds a link to those that the next message wakes.
func (t *topic) sleep(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.sleepers) == cap(t.sleepers) {
		// Instead of growing, let go of those that are gone meanwhile: clients
		// that come and go on a silent topic must not pile up here.
		t.sleepers = open(t.sleepers)
		if len(t.sleepers) > cap(t.sleepers)/2 {
			// Else one that closes for each that comes would mean a pass for each.
			t.sleepers = slices.Grow(t.sleepers, cap(t.sleepers))
		}
	}
	t.sleepers = append(t.sleepers, l)
}

func open(links []*link) []*link {
	kept := links[:0]
	for _, l := range links {
		if !l.gone.Load() {
			kept = append(kept, l)
		}
	}
	clear(links[len(kept):])
	return kept
}

// takeSleepers hands over the list of sleepers; giveBack returns the list, once
// they are awake, to be filled again.
func (t *topic) takeSleepers() []*link {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.sleepers
	t.sleepers, t.spare = t.spare, nil
	return taken
}

func (t *topic) giveBack(taken []*link) {
	clear(taken)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.spare == nil {
		t.spare = taken[:0]
	}
}

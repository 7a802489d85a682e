package broadcast

import (
	"container/list"
	"hash/maphash"
	"strings"
	"time"
)

// retention is what a Hub keeps. It evicts messages when there are too many of them, and
// forgets topics that have not been used for a while. It is guarded by Hub.mu.
type retention struct {
	topics         map[string]*topic
	oldest, newest *entry    // the ends of the list of all kept messages, in sequence
	messages       int       // how many there are
	bytes          int64     // and their size
	unused         list.List // of *topic without cursors, the longest unused first
	tombstones     tombstones
}

// topic returns the named topic, and makes it if it does not exist.
func (k *retention) topic(name string) *topic {
	t := k.topics[name]
	if t == nil {
		name = strings.Clone(name) // it may be part of a request's URL, which it would pin as a whole
		t = &topic{name: name, evicted: k.tombstones.evicted(name)}
		if k.topics == nil {
			k.topics = make(map[string]*topic)
		}
		k.topics[name] = t
	}
	return t
}

// add appends a message to its topic and the list, and evicts what is then too much: the
// oldest of a topic with more than keep messages, the oldest of all while they have more
// than keepBytes together. A message that alone has more (it comes from a Hub that keeps
// more) is evicted with all of its topic.
func (k *retention) add(t *topic, m Message, keep int, keepBytes int64) {
	for t.kept() >= uint64(keep) {
		k.evict(t)
	}
	e := &entry{msg: m, older: k.newest}
	if k.newest == nil {
		k.oldest = e
	} else {
		k.newest.newer = e
	}
	k.newest = e
	k.messages++
	k.bytes += m.size()
	t.push(e)
	for m.size() > keepBytes && t.kept() > 0 {
		k.evict(t)
	}
	for k.bytes > keepBytes {
		k.evict(k.oldest.topic) // the list is in sequence, so its oldest is its ring's too
	}
}

// evict removes the oldest message of a topic.
func (k *retention) evict(t *topic) {
	e := t.evict()
	if e.older == nil {
		k.oldest = e.newer
	} else {
		e.older.newer = e.newer
	}
	if e.newer == nil {
		k.newest = e.older
	} else {
		e.newer.older = e.older
	}
	// A slow reader may keep the message for long: it must not pin anything else.
	e.older, e.newer, e.topic = nil, nil, nil
	k.messages--
	k.bytes -= e.msg.size()
}

// pin counts a cursor on a topic, which is kept as long as it has any.
func (k *retention) pin(t *topic) {
	t.cursors++
	if t.unused != nil {
		k.unused.Remove(t.unused)
		t.unused = nil
	}
}

func (k *retention) unpin(t *topic, now time.Time) {
	t.cursors--
	switch {
	case t.cursors > 0:
	case t.next == 0:
		delete(k.topics, t.name) // it never had a message, so there is nothing to come back for
	default:
		k.touch(t, now)
	}
}

// touch makes a topic without cursors the one used last.
func (k *retention) touch(t *topic, now time.Time) {
	switch {
	case t.cursors > 0:
		return
	case t.unused == nil:
		t.unused = k.unused.PushBack(t)
	default:
		k.unused.MoveToBack(t.unused)
	}
	t.used = now
}

// expire forgets topics that have not been used since a time: two at most, so that no
// caller pays for a sweep.
func (k *retention) expire(since time.Time) {
	for range 2 {
		front := k.unused.Front()
		if front == nil || front.Value.(*topic).used.After(since) {
			return
		}
		t := front.Value.(*topic)
		k.unused.Remove(front)
		k.tombstones.add(t.name, t.newest())
		for t.kept() > 0 {
			k.evict(t)
		}
		delete(k.topics, t.name)
	}
}

// lose notes that all topics, known or not, may have lost messages up to seq.
func (k *retention) lose(seq uint64) {
	for _, t := range k.topics {
		t.evicted = seq
	}
	k.tombstones = tombstones{others: seq}
}

// clear evicts all messages.
func (k *retention) clear() {
	for k.oldest != nil {
		k.evict(k.oldest.topic)
	}
}

// tombstones remember the newest sequence of topics that were forgotten, so that a client
// that comes back to one of them gets a gap only if it may have missed something. The
// table is bounded: when two topics collide, the replaced one is folded into others.
type tombstones struct {
	seed   maphash.Seed
	slots  []tombstone // made when the first topic is forgotten
	others uint64      // an upper bound of newest for all topics without a slot
}

type tombstone struct {
	name   uint64 // hash of the topic's name; 0: the slot is empty
	newest uint64 // the highest sequence that the topic had
}

const tombstoneSlots = 4096

// slot returns the slot for a topic, which may be another's, and the hash of its name.
func (s *tombstones) slot(name string) (*tombstone, uint64) {
	if s.slots == nil {
		s.seed = maphash.MakeSeed()
		s.slots = make([]tombstone, tombstoneSlots)
	}
	hash := maphash.String(s.seed, name) | 1
	return &s.slots[hash>>1%tombstoneSlots], hash
}

func (s *tombstones) add(name string, newest uint64) {
	slot, hash := s.slot(name)
	if slot.name != hash {
		s.others = max(s.others, slot.newest)
	}
	*slot = tombstone{hash, newest}
}

// evicted returns the highest sequence that a topic may have lost.
func (s *tombstones) evicted(name string) uint64 {
	if s.slots == nil {
		return s.others
	}
	if slot, hash := s.slot(name); slot.name == hash {
		return slot.newest
	}
	return s.others
}

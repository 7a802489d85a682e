package broadcast

import (
	"container/list"
	"hash/maphash"
	"strings"
	"time"
)

// retention is what a Hub keeps, and how it lets go of it: messages when there
// are too many of them, topics when nobody has used them for a while. It belongs
// to Hub.mu.
type retention struct {
	topics         map[string]*topic
	oldest, newest *entry    // all kept messages, in sequence
	messages       int       // how many
	bytes          int64     // and their size
	unused         list.List // of *topic without links, the longest unused first
	graves         graves
}

// topic returns the named topic, made if need be.
func (k *retention) topic(name string) *topic {
	t := k.topics[name]
	if t == nil {
		name = strings.Clone(name) // it may be part of a request's URL, all of which it would keep
		t = &topic{name: name, evicted: k.graves.evicted(name)}
		if k.topics == nil {
			k.topics = make(map[string]*topic)
		}
		k.topics[name] = t
	}
	return t
}

// add appends a message to its topic and the log, and evicts what is then too
// much: the oldest of a topic with more than keep messages, the oldest of all
// while they have more than keepBytes together. A message that has more by itself,
// from a Hub that keeps more, goes with all of its topic.
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
		k.evict(k.oldest.topic) // the log is in sequence, so its oldest is its ring's too
	}
}

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
	// A slow reader may hold the message for long: it must hold nothing else.
	e.older, e.newer, e.topic = nil, nil, nil
	k.messages--
	k.bytes -= e.msg.size()
}

// pin keeps a topic as long as a link is on it.
func (k *retention) pin(t *topic) {
	t.links++
	if t.unused != nil {
		k.unused.Remove(t.unused)
		t.unused = nil
	}
}

func (k *retention) unpin(t *topic, now time.Time) {
	t.links--
	switch {
	case t.links > 0:
	case t.next == 0:
		delete(k.topics, t.name) // it never held a message: there is nothing to come back for
	default:
		k.touch(t, now)
	}
}

// touch makes a topic without links the one used last.
func (k *retention) touch(t *topic, now time.Time) {
	switch {
	case t.links > 0:
		return
	case t.unused == nil:
		t.unused = k.unused.PushBack(t)
	default:
		k.unused.MoveToBack(t.unused)
	}
	t.used = now
}

// expire forgets topics that nobody has used since then: two at most, so that
// no caller pays for a sweep.
func (k *retention) expire(then time.Time) {
	for range 2 {
		front := k.unused.Front()
		if front == nil || front.Value.(*topic).used.After(then) {
			return
		}
		t := front.Value.(*topic)
		k.unused.Remove(front)
		k.graves.bury(t.name, t.newest())
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
	k.graves = graves{others: seq}
}

// clear lets go of all messages.
func (k *retention) clear() {
	for k.oldest != nil {
		k.evict(k.oldest.topic)
	}
}

// graves remember how far forgotten topics got, so that a client that comes back
// to one of them is told of a gap only where there may be one. The table is
// bounded: who loses a slot to another is remembered by one figure for all.
type graves struct {
	seed   maphash.Seed
	slots  []grave
	others uint64 // the highest sequence of topics without a slot
}

type grave struct{ name, newest uint64 }

const graveSlots = 4096

func (g *graves) slot(name string) (*grave, uint64) {
	if g.slots == nil {
		g.seed = maphash.MakeSeed()
		g.slots = make([]grave, graveSlots)
	}
	hash := maphash.String(g.seed, name) | 1 // 0 is an empty slot
	return &g.slots[hash>>1%graveSlots], hash
}

func (g *graves) bury(name string, newest uint64) {
	slot, hash := g.slot(name)
	if slot.name != hash {
		g.others = max(g.others, slot.newest)
	}
	*slot = grave{hash, newest}
}

func (g *graves) evicted(name string) uint64 {
	if g.slots == nil {
		return g.others
	}
	if slot, hash := g.slot(name); slot.name == hash {
		return slot.newest
	}
	return g.others
}

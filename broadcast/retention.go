package broadcast

import (
	"hash/maphash"
	"maps"
	"strings"
	"time"
)

// retention is what a Hub keeps. It evicts messages when there are too many of them, and
// forgets topics that have not been used for a while. It is guarded by Hub.mu.
type retention struct {
	topics         map[string]*topic
	peak           int       // how many topics the map has had room for
	oldest, newest *entry    // the ends of the list of all kept messages, in sequence
	messages       int       // how many there are
	bytes          int64     // what they and the unused topics count
	unused         topicList // topics without cursors, the longest unused first
	tombstones     tombstones
	began          time.Time // topic.used is since then
}

const (
	// messageCost is what a kept message takes beyond its text: the entry, places in a ring
	// that may be half empty, and what the allocator rounds up.
	messageCost = 200

	// topicCost is what an unused topic takes beyond its name: the topic, and its place in a
	// map that may be half empty.
	topicCost = 250

	// smallMap is how many topics may be moved to a smaller map at once.
	smallMap = 1024
)

// cost is what a message counts against [Hub.KeepBytes].
func (m *Message) cost() int64 { return m.size() + messageCost }

// cost is what the topic counts against [Hub.KeepBytes] while it is unused. With cursors it is
// a part of what its subscriptions cost.
func (t *topic) cost() int64 { return int64(len(t.name)) + topicCost }

// topic returns the named topic, and makes it if it does not exist. The caller pins or touches
// it.
func (k *retention) topic(name string) *topic {
	t := k.topics[name]
	if t == nil {
		name = strings.Clone(name) // it may be part of a request's URL, which it would pin as a whole
		t = &topic{name: name, evicted: k.tombstones.evicted(name)}
		if k.topics == nil {
			k.topics = make(map[string]*topic)
		}
		k.topics[name] = t
		k.peak = max(k.peak, len(k.topics))
	}
	return t
}

// add appends a message to its topic and the list, and evicts what is then too much of the
// topic: its oldest while it has more than keep messages. A message that alone is more than
// keepBytes (it comes from a Hub that keeps more) is evicted with all of its topic.
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
	k.bytes += m.cost()
	t.push(e)
	for m.cost() > keepBytes && t.kept() > 0 {
		k.evict(t)
	}
}

// trim evicts the oldest messages, of any topic, while more than keepBytes are kept, and
// forgets unused topics that lose their last one.
func (k *retention) trim(keepBytes int64) {
	for k.bytes > keepBytes && k.oldest != nil {
		t := k.oldest.topic
		k.evict(t) // the list is in sequence, so its oldest is its ring's too
		t.shrink()
		k.forgetEmpty(t)
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
	k.bytes -= e.msg.cost()
}

// pin counts a cursor on a topic, which is kept as long as it has any.
func (k *retention) pin(t *topic) {
	t.cursors++
	k.use(t)
}

func (k *retention) unpin(t *topic, now time.Time) {
	t.cursors--
	if t.cursors == 0 {
		k.touch(t, now)
		k.forgetEmpty(t)
	}
}

// use removes a topic from the unused ones.
func (k *retention) use(t *topic) {
	if t.isUnused {
		k.unused.remove(t)
		k.bytes -= t.cost()
	}
}

// touch makes a topic without cursors the one used last.
func (k *retention) touch(t *topic, now time.Time) {
	if t.cursors > 0 {
		return
	}
	k.use(t)
	k.unused.append(t)
	k.bytes += t.cost()
	t.used = now.Sub(k.began)
}

// expire forgets topics that have not been used for a time, but not more than a few, with a
// few messages. It reports whether it stopped because of that.
func (k *retention) expire(now time.Time, unused time.Duration) (more bool) {
	const few = 128
	for before := k.messages + len(k.topics); ; {
		t := k.unused.first
		switch {
		case t == nil || now.Sub(k.began)-t.used < unused:
			return false
		case before-k.messages-len(k.topics) >= few:
			return true
		}
		for t.kept() > 0 {
			k.evict(t)
		}
		k.forgetEmpty(t)
	}
}

// forgetEmpty forgets a topic that has neither cursors nor messages.
func (k *retention) forgetEmpty(t *topic) {
	if !t.isUnused || t.kept() > 0 {
		return
	}
	k.use(t)
	if t.next > 0 {
		k.tombstones.add(t.name, t.newest())
	} // else there is nothing to come back for
	delete(k.topics, t.name)
	// A map keeps the size of its peak.
	if n := len(k.topics); n <= smallMap && n < k.peak/8 {
		smaller := make(map[string]*topic, n)
		maps.Copy(smaller, k.topics)
		k.topics, k.peak = smaller, n
	}
}

// lose notes that all topics, known or not, may have lost messages up to seq.
func (k *retention) lose(seq uint64) {
	for _, t := range k.topics {
		t.evicted = seq
	}
	k.tombstones = tombstones{others: seq}
}

// loseOld evicts all messages up to seq, and notes that all topics, known or not, may have lost
// messages up to there.
func (k *retention) loseOld(seq uint64) {
	for k.oldest != nil && k.oldest.msg.ID.seq <= seq {
		t := k.oldest.topic
		k.evict(t)
		t.shrink()
		k.forgetEmpty(t)
	}
	for _, t := range k.topics {
		t.evicted = max(t.evicted, seq)
	}
	k.tombstones.raise(seq)
}

// clear evicts all messages.
func (k *retention) clear() {
	for k.oldest != nil {
		t := k.oldest.topic
		k.evict(t)
		t.shrink()
		k.forgetEmpty(t)
	}
}

// topicList is a list of topics, linked through them.
type topicList struct{ first, last *topic }

func (l *topicList) append(t *topic) {
	if t.older = l.last; t.older == nil {
		l.first = t
	} else {
		t.older.newer = t
	}
	l.last = t
	t.isUnused = true
}

func (l *topicList) remove(t *topic) {
	if t.older == nil {
		l.first = t.newer
	} else {
		t.older.newer = t.newer
	}
	if t.newer == nil {
		l.last = t.older
	} else {
		t.newer.older = t.older
	}
	t.older, t.newer, t.isUnused = nil, nil, false
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

// raise notes that all topics may have lost messages up to seq.
func (s *tombstones) raise(seq uint64) {
	s.others = max(s.others, seq)
	for i := range s.slots {
		s.slots[i].newest = max(s.slots[i].newest, seq)
	}
}

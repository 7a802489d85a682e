package broadcast

import (
	"maps"
	"strings"
	"sync/atomic"
	"time"
)

// retention is what a Hub keeps. It evicts messages when there are too many of them, and
// forgets topics that have not been used for a while. It is guarded by Hub.mu, but for what is
// atomic.
type retention struct {
	// Read by each Poll without Hub.mu, as Hub.head is, close to which they are.
	tables atomic.Int32 // topics that have a table
	ended  atomic.Int32 // topics that have ended

	classes
	topics     map[string]*topic
	floor      uint64    // up to here this Hub has read only what a Compactor keeps: a position before that has a gap
	peak       int       // how many topics the map has had room for
	events     entryList // all events that are kept, and removals
	live       entryList // all values that are kept
	liveBytes  int64     // what they count
	messages   int       // how many entries both lists have
	bytes      int64     // what they and the unused topics count
	tombstones tombstones
	began      time.Time // topic.used is since then
}

const (
	// messageCost is what a kept message takes beyond its text: the entry, places in a ring
	// that may be half empty, and what the allocator rounds up.
	messageCost = 200

	// keyCost is what a message with a Key takes in addition: places in a table.
	keyCost = 100

	// topicCost is what an unused topic takes beyond its name: the topic, and its place in a
	// map that may be half empty.
	topicCost = 250

	// tableCost is what an unused topic takes in addition once it has had a Key.
	tableCost = 500

	// smallMap is how many topics may be moved to a smaller map at once.
	smallMap = 1024
)

// cost is what a message counts against [Hub.KeepBytes].
func (m *Message) cost() int64 {
	if m.Key != "" {
		return m.size() + messageCost + keyCost
	}
	return m.size() + messageCost
}

// costWithTopic is what a message counts if its topic has no subscriptions.
func (m *Message) costWithTopic() int64 {
	cost := m.cost() + topicCost + int64(len(m.Topic))
	if m.Key != "" {
		cost += tableCost
	}
	return cost
}

// cost is what the topic counts against [Hub.KeepBytes] while it is unused. With cursors it is
// a part of what its subscriptions cost.
func (t *topic) cost() int64 {
	cost := int64(len(t.name)) + topicCost
	if t.table.Load() != nil {
		cost += tableCost
	}
	return cost
}

// classOf returns what is kept of a topic.
func (k *retention) classOf(t *topic) *class { return &k.all[t.class] }

// topic returns the named topic, and makes it if it does not exist. The caller pins or touches
// it.
func (k *retention) topic(name string) *topic {
	t := k.topics[name]
	if t == nil {
		name = strings.Clone(name) // it may be part of a request's URL, which it would pin as a whole
		evicted := k.tombstones.evicted(name)
		t = &topic{name: name, evicted: evicted, floor: max(evicted, k.floor), class: k.of(name)}
		if k.topics == nil {
			k.topics = make(map[string]*topic)
		}
		k.topics[name] = t
		k.peak = max(k.peak, len(k.topics))
	}
	return t
}

// add appends a message to its topic, and evicts what is then too much of the topic. A message
// that alone is more than keepBytes (it comes from a Hub that keeps more) is evicted with all of
// its kind.
func (k *retention) add(t *topic, m *Message, keepBytes int64) {
	e := &entry{msg: *m}
	if m.Key != "" {
		k.addKey(t, e)
		for m.cost() > keepBytes && !t.table.Load().isEmpty() {
			k.evictKeys(t, 0)
		}
		return
	}
	if m.First {
		k.startOver(t)
	}
	for keep := k.classOf(t).keep; t.kept() >= uint64(keep); {
		k.evict(t)
	}
	k.append(e)
	t.push(e)
	if m.First || m.End {
		k.setEnded(t, m.End)
	}
	for m.cost() > keepBytes && t.kept() > 0 {
		k.evict(t)
	}
}

// append counts an entry as kept.
func (k *retention) append(e *entry) {
	cost := e.msg.cost()
	if e.msg.isValue() {
		k.live.append(e)
		k.liveBytes += cost
	} else {
		k.events.append(e)
	}
	k.messages++
	k.bytes += cost
}

// remove removes an entry from what is kept.
func (k *retention) remove(e *entry) {
	cost := e.msg.cost()
	if e.msg.isValue() {
		k.live.remove(e)
		k.liveBytes -= cost
	} else {
		k.events.remove(e)
	}
	e.topic = nil // a slow reader may keep the message for long: it must not pin anything else
	k.messages--
	k.bytes -= cost
}

// isValue reports whether the message is a Key's value.
func (m *Message) isValue() bool { return m.Key != "" && !m.Removed }

// trim evicts messages, of any topic, while more than keepBytes are kept, and forgets unused
// topics that lose their last one.
func (k *retention) trim(keepBytes int64) {
	for k.bytes > keepBytes && k.messages > 0 {
		k.evictOldest(k.victim(keepBytes))
	}
}

// victim returns the entry to evict when too much is kept: the oldest value while values are
// more than half of it, but not the last one, else the oldest event or removal.
func (k *retention) victim(keepBytes int64) *entry {
	event, value := k.events.oldest, k.live.oldest
	switch {
	case event == nil:
		return value
	case value == nil:
		return event
	case k.liveBytes > keepBytes/2 && value != k.live.newest:
		return value
	case event == k.events.newest && value.msg.ID.seq < event.msg.ID.seq:
		return value // rather than the message that was published last
	}
	return event
}

// evictOldest evicts the oldest entry of its kind.
func (k *retention) evictOldest(e *entry) {
	t := e.topic
	if e.msg.Key != "" {
		k.evictKey(t, e)
	} else {
		k.evict(t) // the list is in sequence, so its oldest event is its ring's too
		t.shrink()
	}
	k.forgetEmpty(t)
}

// evict removes the oldest event of a topic.
func (k *retention) evict(t *topic) { k.remove(t.evict()) }

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
		k.unusedOf(t).remove(t)
		k.bytes -= t.cost()
	}
}

// touch makes a topic without cursors the one used last.
func (k *retention) touch(t *topic, now time.Time) {
	if t.cursors > 0 {
		return
	}
	k.use(t)
	k.unusedOf(t).append(t)
	k.bytes += t.cost()
	t.used = now.Sub(k.began)
}

// unusedOf returns the list in which a topic stands while it is unused.
func (k *retention) unusedOf(t *topic) *unused { return &k.unused[k.classOf(t).unused] }

// expire forgets topics that have not been used for their TTL, but not more than a few, with a
// few messages. It reports whether it stopped because of that.
func (k *retention) expire(now time.Time) (more bool) {
	const few = 128
	before := k.messages + len(k.topics)
	for i := range k.unused {
		for u := &k.unused[i]; u.first != nil && u.ttl > 0 && now.Sub(k.began)-u.first.used >= u.ttl; {
			if before-k.messages-len(k.topics) >= few {
				return true
			}
			if t := u.first; t.isEmpty() {
				k.forgetEmpty(t)
			} else {
				k.evictAny(t)
			}
		}
	}
	return false
}

// evictAny evicts a message of a topic that has some.
func (k *retention) evictAny(t *topic) {
	if t.kept() > 0 {
		k.evict(t)
		return
	}
	tb := t.table.Load()
	oldest := tb.values.oldest
	if oldest == nil {
		oldest = tb.removals.oldest
	}
	k.evictKey(t, oldest.entry)
}

// expiresIn returns how long it is until the next topic is to be forgotten, and its TTL, or false
// if none is.
func (k *retention) expiresIn(now time.Time) (in, ttl time.Duration, ok bool) {
	for i := range k.unused {
		u := &k.unused[i]
		if u.first == nil || u.ttl < 0 {
			continue
		}
		if due := u.first.used + u.ttl - now.Sub(k.began); !ok || due < in {
			in, ttl, ok = due, u.ttl, true
		}
	}
	return in, ttl, ok
}

// forgetEmpty forgets a topic that has neither cursors nor messages.
func (k *retention) forgetEmpty(t *topic) {
	if !t.isUnused || !t.isEmpty() {
		return
	}
	k.use(t)
	k.setEnded(t, false)
	if t.table.Load() != nil {
		k.tables.Add(-1)
	}
	if t.next > 0 || t.table.Load() != nil {
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
		t.evicted, t.floor = seq, seq
		k.setEnded(t, false)
		k.loseKeys(t, seq)
	}
	k.tombstones = tombstones{others: seq}
}

// loseOld evicts all events and removals up to seq, which no value is as old as, and notes that
// all topics, known or not, may have lost messages up to there.
func (k *retention) loseOld(seq uint64) {
	for k.events.oldest != nil && k.events.oldest.msg.ID.seq <= seq {
		k.evictOldest(k.events.oldest)
	}
	for _, t := range k.topics {
		t.floor = max(t.floor, seq)
		if t.startedAt() < seq {
			t.evicted = max(t.evicted, seq)
		}
	}
	k.tombstones.raise(seq)
}

// clear evicts all messages, of an epoch that is over.
func (k *retention) clear() {
	for k.events.oldest != nil {
		k.evictOldest(k.events.oldest)
	}
	for k.live.oldest != nil {
		k.evictOldest(k.live.oldest)
	}
	for _, t := range k.topics {
		k.abandonTable(t)
	}
	k.floor = 0
}

// refuses reports whether a message is for a topic that has ended.
func (k *retention) refuses(m *Message) bool {
	if m.First || k.ended.Load() == 0 {
		return false
	}
	t := k.topics[m.Topic]
	return t != nil && t.hasEnded.Load()
}

// setEnded notes whether a topic has ended.
func (k *retention) setEnded(t *topic, ended bool) {
	switch {
	case ended == t.hasEnded.Load():
		return
	case ended:
		k.ended.Add(1)
	default:
		k.ended.Add(-1)
	}
	t.hasEnded.Store(ended)
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

package broadcast_test

import (
	"slices"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// stateModel is what a Hub should have whose topics have Keys.
type stateModel struct {
	keepBytes int64
	classes   map[string]broadcast.Retention // by topic, with all fields set
	epoch     uint64

	log        []stateMessage // the message of sequence n is at n-1
	topics     map[string]*stateTopic
	tombstones map[string]int // the newest sequences of forgotten topics
	gaps       uint64
}

// stateMessage is a message of the whole history.
type stateMessage struct {
	topic, key          string
	removed, first, end bool
	size                int64
	kept                bool
	seen                *broadcast.Message
}

// stateTopic is a topic that is remembered.
type stateTopic struct {
	events                     []int // kept
	keys                       map[string]int
	missing                    map[string]bool
	more                       bool // keys are missing that are not in missing
	hasTable, ended            bool
	evicted                    int // the newest event evicted since First
	valuesEvicted, keysEvicted int // the newest value evicted, or removal
	cursors                    int
	used                       time.Time
}

func (m *stateModel) head() int                { return len(m.log) }
func (m *stateModel) id(seq int) broadcast.ID  { return broadcast.MakeID(m.epoch, uint64(seq)) }
func (m *stateModel) at(seq int) *stateMessage { return &m.log[seq-1] }
func (t *stateTopic) isPartial() bool          { return t.evicted > 0 || t.more || len(t.missing) > 0 }
func (l *stateMessage) isLive() bool           { return l.key != "" && !l.removed }
func (m *stateModel) keep(name string) int     { return m.classes[name].Keep }
func (m *stateModel) values(name string) int   { return m.classes[name].Values }
func (m *stateModel) mayCollide(name string) bool { // see world.mayCollide
	for other := range m.tombstones {
		if other != name {
			return true
		}
	}
	return false
}

func (l *stateMessage) cost() int64 {
	if l.key != "" {
		return l.size + 300
	}
	return l.size + 200
}

func (m *stateModel) topic(name string) *stateTopic {
	t := m.topics[name]
	if t == nil {
		evicted := m.tombstones[name]
		t = &stateTopic{keys: make(map[string]int), missing: make(map[string]bool), evicted: evicted, valuesEvicted: evicted, keysEvicted: evicted}
		m.topics[name] = t
	}
	return t
}

func (m *stateModel) publish(l stateMessage) {
	l.kept = true
	t := m.topic(l.topic)
	m.log = append(m.log, l)
	seq := m.head()
	switch {
	case l.key != "":
		t.hasTable = true
		if old := t.keys[l.key]; old > 0 {
			m.at(old).kept = false
		}
		t.keys[l.key] = seq
		delete(t.missing, l.key)
		for m.evictKeyBeyond(t, l.topic, false) || m.evictKeyBeyond(t, l.topic, true) {
		}
	default:
		if l.first {
			for len(t.events) > 0 {
				m.evictEvent(t)
			}
			t.evicted, t.ended = 0, false
		}
		for len(t.events) >= m.keep(l.topic) {
			m.evictEvent(t)
		}
		t.events = append(t.events, seq)
		t.ended = t.ended || l.end
	}
	t.used = time.Now()
	m.trim()
}

// evictKeyBeyond evicts the oldest value of a topic, or removal, if there are too many.
func (m *stateModel) evictKeyBeyond(t *stateTopic, name string, removed bool) bool {
	oldest, n := 0, 0
	for _, seq := range t.keys {
		if m.at(seq).removed == removed {
			if n++; oldest == 0 || seq < oldest {
				oldest = seq
			}
		}
	}
	if n > m.values(name) {
		m.evict(oldest)
		return true
	}
	return false
}

func (m *stateModel) evictEvent(t *stateTopic) {
	m.at(t.events[0]).kept = false
	t.evicted = t.events[0]
	t.events = t.events[1:]
}

// evict evicts a message, which is the oldest of its kind.
func (m *stateModel) evict(seq int) {
	l := m.at(seq)
	t := m.topics[l.topic]
	switch {
	case l.key == "":
		m.evictEvent(t)
		return
	case l.removed:
		t.keysEvicted = seq
	case len(t.missing) >= m.values(l.topic):
		t.valuesEvicted, t.more = seq, true
	default:
		t.valuesEvicted = seq
		t.missing[l.key] = true
	}
	delete(t.keys, l.key)
	l.kept = false
}

func (m *stateModel) bytes() (bytes int64) {
	for i := range m.log {
		if m.log[i].kept {
			bytes += m.log[i].cost()
		}
	}
	for name, t := range m.topics {
		if t.cursors == 0 {
			bytes += int64(len(name)) + 250
			if t.hasTable {
				bytes += 500
			}
		}
	}
	return bytes
}

// trim evicts what is more than keepBytes, and forgets unused topics that have nothing left.
func (m *stateModel) trim() {
	m.forgetEmpty()
	for m.bytes() > m.keepBytes {
		seq := m.victim()
		if seq == 0 {
			return
		}
		m.evict(seq)
		m.forgetEmpty()
	}
}

func (m *stateModel) victim() int {
	event, value, newestEvent, newestValue, valueBytes := 0, 0, 0, 0, int64(0)
	for seq := 1; seq <= m.head(); seq++ {
		switch l := m.at(seq); {
		case !l.kept:
		case l.isLive():
			if value == 0 {
				value = seq
			}
			newestValue = seq
			valueBytes += l.cost()
		default:
			if event == 0 {
				event = seq
			}
			newestEvent = seq
		}
	}
	switch {
	case event == 0:
		return value
	case value == 0:
		return event
	case valueBytes > m.keepBytes/2 && value != newestValue, event == newestEvent && value < event:
		return value
	}
	return event
}

func (m *stateModel) forgetEmpty() {
	for name, t := range m.topics {
		if t.cursors == 0 && len(t.events) == 0 && len(t.keys) == 0 {
			m.forget(name)
		}
	}
}

func (m *stateModel) forget(name string) {
	delete(m.topics, name)
	for seq := m.head(); seq > 0; seq-- {
		if m.at(seq).topic == name {
			m.tombstones[name] = seq
			break
		}
	}
}

func (m *stateModel) expire() {
	for name, t := range m.topics {
		ttl := m.classes[name].TTL
		if t.cursors > 0 || ttl < 0 || time.Since(t.used) < ttl {
			continue
		}
		for seq := range m.log {
			if m.log[seq].topic == name {
				m.log[seq].kept = false
			}
		}
		m.forget(name)
	}
}

func (m *stateModel) subscribe(names []string) {
	for _, name := range names {
		m.topic(name).cursors++
	}
}

func (m *stateModel) unsubscribe(names []string) {
	for _, name := range names {
		t := m.topics[name]
		if t.cursors--; t.cursors == 0 {
			t.used = time.Now()
		}
	}
	m.trim()
}

// newest returns the newest sequence of a Key up to a sequence, or 0.
func (m *stateModel) newest(topic, key string, upTo int) int {
	for seq := min(upTo, m.head()); seq > 0; seq-- {
		if l := m.at(seq); l.topic == topic && l.key == key {
			return seq
		}
	}
	return 0
}

// keys lists all Keys that a topic has ever had.
func (m *stateModel) allKeys(topic string) (keys []string) {
	for i := range m.log {
		if l := &m.log[i]; l.topic == topic && l.key != "" && !slices.Contains(keys, l.key) {
			keys = append(keys, l.key)
		}
	}
	return keys
}

// startedOver reports whether an event with First came after a sequence.
func (m *stateModel) startedOver(topic string, after int) bool {
	for seq := after + 1; seq <= m.head(); seq++ {
		if l := m.at(seq); l.topic == topic && l.first {
			return true
		}
	}
	return false
}

// isReplaced reports whether a First follows an event.
func (m *stateModel) isReplaced(seq int) bool { return m.startedOver(m.at(seq).topic, seq) }

// lastOf returns the newest events and values of topics, as many of each.
func (m *stateModel) lastOf(names []string, last int) (seqs []int) {
	for _, name := range names {
		t := m.topics[name]
		all := slices.Clone(t.events)
		for _, seq := range t.keys {
			if !m.at(seq).removed {
				all = append(all, seq)
			}
		}
		slices.Sort(all)
		seqs = append(seqs, all[max(0, len(all)-last):]...)
	}
	slices.Sort(seqs)
	return seqs
}

// isRemoved reports whether a Key was removed after a sequence.
func (m *stateModel) isRemoved(topic, key string, after int) bool {
	for seq := after + 1; seq <= m.head(); seq++ {
		if l := m.at(seq); l.topic == topic && l.key == key && l.removed {
			return true
		}
	}
	return false
}

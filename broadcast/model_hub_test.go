package broadcast_test

import (
	"slices"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// model is what a Hub should have.
type model struct {
	keep      int
	keepBytes int64
	ttl       time.Duration
	epoch     uint64

	log        []modelMessage // the message of sequence n is at n-1
	topics     map[string]*modelTopic
	unused     []string       // topics without subscriptions, the longest unused first
	tombstones map[string]int // the newest sequences of forgotten topics
	messages   int
	bytes      int64
	gaps       uint64
}

// modelMessage is a message of the whole history.
type modelMessage struct {
	topic string
	size  int64
	gone  bool               // no longer kept
	seen  *broadcast.Message // as it was first returned: all get the same
}

// modelTopic is a topic that is remembered.
type modelTopic struct {
	kept    []int // sequences
	hadAny  bool  // whether it ever had a message
	cursors int
	used    time.Time
}

func (m *model) head() int                { return len(m.log) }
func (m *model) id(seq int) broadcast.ID  { return broadcast.MakeID(m.epoch, uint64(seq)) }
func (m *model) at(seq int) *modelMessage { return &m.log[seq-1] }

func (m *model) topic(name string) *modelTopic {
	if m.topics[name] == nil {
		m.topics[name] = new(modelTopic)
	}
	return m.topics[name]
}

func (m *model) publish(name string, size int64, seen *modelTally) {
	m.expire(seen)
	t := m.topic(name)
	for len(t.kept) >= m.keep {
		m.evict(t)
	}
	m.log = append(m.log, modelMessage{topic: name, size: size})
	t.kept, t.hadAny = append(t.kept, m.head()), true
	m.messages++
	m.bytes += size
	for oldest := 1; m.bytes > m.keepBytes; oldest++ {
		if l := m.at(oldest); !l.gone {
			m.evict(m.topics[l.topic])
		}
	}
	m.touch(name)
}

func (m *model) evict(t *modelTopic) {
	oldest := m.at(t.kept[0])
	oldest.gone = true
	t.kept = t.kept[1:]
	m.messages--
	m.bytes -= oldest.size
}

// touch makes a topic without subscriptions the one used last.
func (m *model) touch(name string) {
	t := m.topics[name]
	if t.cursors > 0 {
		return
	}
	m.unused = append(slices.DeleteFunc(m.unused, func(n string) bool { return n == name }), name)
	t.used = time.Now()
}

// expire forgets two topics at most that have not been used for ttl.
func (m *model) expire(seen *modelTally) {
	for range 2 {
		if len(m.unused) == 0 || time.Since(m.topics[m.unused[0]].used) < m.ttl {
			return
		}
		name := m.unused[0]
		m.unused = m.unused[1:]
		if len(m.topics[name].kept) > 0 {
			seen.Forgotten++
		}
		for len(m.topics[name].kept) > 0 {
			m.evict(m.topics[name])
		}
		delete(m.topics, name)
		for seq := m.head(); seq > 0; seq-- {
			if m.at(seq).topic == name {
				m.tombstones[name] = seq
				break
			}
		}
	}
}

func (m *model) subscribe(names []string, seen *modelTally) {
	m.expire(seen)
	for _, name := range names {
		m.topic(name).cursors++
		m.unused = slices.DeleteFunc(m.unused, func(n string) bool { return n == name })
	}
}

func (m *model) unsubscribe(names []string) {
	for _, name := range names {
		t := m.topics[name]
		t.cursors--
		switch {
		case t.cursors > 0:
		case t.hadAny:
			m.touch(name)
		default:
			delete(m.topics, name)
		}
	}
}

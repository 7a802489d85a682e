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

// What a message and an unused topic count beyond their text.
const modelMessageCost, modelTopicCost = 200, 250

func (m *model) publish(name string, size int64, seen *modelTally) {
	t := m.topic(name)
	for len(t.kept) >= m.keep {
		m.evict(t)
	}
	m.log = append(m.log, modelMessage{topic: name, size: size})
	t.kept = append(t.kept, m.head())
	m.messages++
	m.bytes += size + modelMessageCost
	m.touch(name)
	m.trim(seen)
}

// trim evicts the oldest messages, and forgets unused topics that lose their last one.
func (m *model) trim(seen *modelTally) {
	for oldest := 1; m.bytes > m.keepBytes; oldest++ {
		l := m.at(oldest)
		if l.gone {
			continue
		}
		t := m.topics[l.topic]
		m.evict(t)
		if t.cursors == 0 && len(t.kept) == 0 {
			m.forget(l.topic)
			seen.Trimmed++
		}
	}
}

// use removes a topic from the unused ones.
func (m *model) use(name string) {
	if i := slices.Index(m.unused, name); i >= 0 {
		m.unused = slices.Delete(m.unused, i, i+1)
		m.bytes -= int64(len(name)) + modelTopicCost
	}
}

// forget forgets an unused topic.
func (m *model) forget(name string) {
	m.use(name)
	delete(m.topics, name)
	for seq := m.head(); seq > 0; seq-- {
		if m.at(seq).topic == name {
			m.tombstones[name] = seq
			break
		}
	}
}

func (m *model) evict(t *modelTopic) {
	oldest := m.at(t.kept[0])
	oldest.gone = true
	t.kept = t.kept[1:]
	m.messages--
	m.bytes -= oldest.size + modelMessageCost
}

// touch makes a topic without subscriptions the one used last.
func (m *model) touch(name string) {
	t := m.topics[name]
	if t.cursors > 0 {
		return
	}
	m.use(name)
	m.unused = append(m.unused, name)
	m.bytes += int64(len(name)) + modelTopicCost
	t.used = time.Now()
}

// expire forgets the topics that have not been used for ttl.
func (m *model) expire(seen *modelTally) {
	for len(m.unused) > 0 && time.Since(m.topics[m.unused[0]].used) >= m.ttl {
		name := m.unused[0]
		seen.Forgotten++
		for len(m.topics[name].kept) > 0 {
			m.evict(m.topics[name])
		}
		m.forget(name)
	}
}

func (m *model) subscribe(names []string) {
	for _, name := range names {
		m.topic(name).cursors++
		m.use(name)
	}
}

func (m *model) unsubscribe(names []string, seen *modelTally) {
	for _, name := range names {
		t := m.topics[name]
		t.cursors--
		switch {
		case t.cursors > 0:
		case len(t.kept) > 0:
			m.touch(name)
		default:
			m.forget(name)
		}
	}
	m.trim(seen)
}

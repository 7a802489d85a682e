package broadcast

import (
	"slices"
	"sync"
	"sync/atomic"
)

// pastMessage is a message that was read from the journal because the rings have evicted it.
// Subscriptions that were read for at the same time share it. It counts as kept while one of
// them has still to return it.
type pastMessage struct {
	msg    Message
	shares atomic.Int32
}

// history is what was read from the journal for a subscription. A nil history is empty. It has
// a lock of its own, so that Close can drop it at any time. That is locked after Hub.mu.
type history struct {
	past *past // set when the history is made

	// Guarded by mu.
	mu       sync.Mutex
	messages []*pastMessage // their sequences rise
	bytes    int64          // what they count
	dropped  bool           // nobody will return them

	reading *readHistory // until all of it is there; set when the history is made
}

// readHistory is what a history has beside its messages while these are read from the journal. A
// newer message of a Key replaces the older one, which leaves a hole among the messages, and First
// all events of its topic. It is guarded by history.mu.
type readHistory struct {
	places map[topicKey]int // where the newest message of each Key is
	keys   map[string]int   // how many Keys a topic has
	events int
	holes  int
}

type topicKey struct{ topic, key string }

// newHistory makes a history that is still to be read.
func (p *past) newHistory() *history {
	return &history{past: p, reading: &readHistory{places: make(map[topicKey]int), keys: make(map[string]int)}}
}

// past is what a Hub keeps of its history for subscriptions.
type past struct {
	bytes atomic.Int64 // all of it; a message that several have counts once
}

// Shares of Hub.KeepBytes, beyond which a subscription gets a gap instead of its history.
const (
	allHistories = 4 // all histories have at most a quarter
	eachHistory  = 8 // each history at most an eighth
)

// historyLimit is how much one subscription's history may have.
type historyLimit struct {
	events, keys int // keys of each topic
	keepBytes    int64
}

// add appends a message, unless nobody waits for the history or it would be too much. The
// caller has a share of the message itself.
func (h *history) add(m *pastMessage, limit historyLimit) (added bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dropped {
		return false
	}
	h.replace(&m.msg)
	r, cost := h.reading, m.msg.cost()
	switch {
	case m.msg.Key == "" && r.events == limit.events, m.msg.Key != "" && r.keys[m.msg.Topic] == limit.keys:
		return false
	case h.bytes+cost > limit.keepBytes/eachHistory || h.past.bytes.Load() > limit.keepBytes/allHistories:
		return false
	case m.msg.Key == "":
		r.events++
	default:
		r.keys[m.msg.Topic]++
		r.places[topicKey{m.msg.Topic, m.msg.Key}] = len(h.messages)
	}
	m.shares.Add(1)
	h.messages = append(h.messages, m)
	h.bytes += cost
	return true
}

// replace forgets the messages that a newer one stands for. The caller holds mu.
func (h *history) replace(m *Message) {
	switch {
	case m.Key != "":
		if i, ok := h.reading.places[topicKey{m.Topic, m.Key}]; ok {
			h.reading.keys[m.Topic]--
			h.removeAt(i)
		}
	case m.First:
		for i, old := range h.messages {
			if old != nil && old.msg.Topic == m.Topic && old.msg.Key == "" {
				h.reading.events--
				h.removeAt(i)
			}
		}
	}
	if h.reading.holes > 64 && h.reading.holes > len(h.messages)/2 {
		h.compact()
	}
}

// removeAt leaves a hole for a message. The caller holds mu.
func (h *history) removeAt(i int) {
	h.release(h.messages[i])
	h.messages[i] = nil
	h.reading.holes++
}

// compact removes the holes. The caller holds mu.
func (h *history) compact() {
	h.messages = slices.DeleteFunc(h.messages, func(m *pastMessage) bool { return m == nil })
	h.reading.holes = 0
	for i, m := range h.messages {
		if m.msg.Key != "" {
			h.reading.places[topicKey{m.msg.Topic, m.msg.Key}] = i
		}
	}
}

// complete says that all of the history is there.
func (h *history) complete() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.compact()
	h.reading = nil
}

// take fills buf with the first messages up to a sequence, and forgets them. If there are none
// up to there it drops the others.
func (h *history) take(buf []*Message, upTo uint64) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n < min(len(buf), len(h.messages)) && h.messages[n].msg.ID.seq <= upTo {
		buf[n] = &h.messages[n].msg
		h.release(h.messages[n])
		h.messages[n] = nil
		n++
	}
	if h.messages = h.messages[n:]; n == 0 {
		h.releaseAll()
	}
	return n
}

// keep drops the messages of all topics but these.
func (h *history) keep(topics []string) {
	if h.isEmpty() {
		return
	}
	names := make(map[string]bool, len(topics))
	for _, name := range topics {
		names[name] = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages = slices.DeleteFunc(h.messages, func(m *pastMessage) bool {
		if names[m.msg.Topic] {
			return false
		}
		h.release(m)
		return true
	})
}

// drop forgets all messages, and takes no more.
func (h *history) drop() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropped = true
	h.releaseAll()
}

func (h *history) isEmpty() bool {
	if h == nil {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.messages) == 0
}

// releaseAll forgets all messages. The caller holds mu.
func (h *history) releaseAll() {
	for _, m := range h.messages {
		if m != nil {
			h.release(m)
		}
	}
	h.messages = nil
}

// release gives up a share of a message. The caller holds mu.
func (h *history) release(m *pastMessage) {
	h.bytes -= m.msg.cost()
	h.past.release(m)
}

// hold makes a message for histories to share. The caller has a share itself, which it
// releases after it has added the message to them.
func (p *past) hold(m Message) *pastMessage {
	held := &pastMessage{msg: m}
	held.shares.Store(1)
	p.bytes.Add(m.cost())
	return held
}

func (p *past) release(m *pastMessage) {
	if m.shares.Add(-1) == 0 {
		p.bytes.Add(-m.msg.cost())
	}
}

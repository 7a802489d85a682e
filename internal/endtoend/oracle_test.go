package endtoend_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/fanfare-go/fanfare/broadcast"
)

// history is what was published to a Hub.
type history struct {
	hub  *broadcast.Hub
	mu   sync.Mutex
	seqs map[string][]uint64 // of the messages of each topic
}

// line is what messages consist of.
var line = []byte("abcdefg\n")

// publish publishes a message of some lines. Its data names its topic and its length, so
// that topicOf can tell whether it is complete.
func (h *history) publish(ctx context.Context, topic, typ string, lines int) error {
	data := fmt.Appendf(nil, "%s:%d:", topic, lines)
	data = append(data, bytes.Repeat(line, lines)...)
	id, err := h.hub.Publish(ctx, broadcast.Message{Topic: topic, Type: typ, Data: data})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seqs == nil {
		h.seqs = make(map[string][]uint64)
	}
	h.seqs[topic] = append(h.seqs[topic], id.Seq())
	return nil
}

// topicOf returns the topic that a message's data names, or an error if the data is not
// complete.
func topicOf(data []byte) (string, error) {
	topic, rest, _ := bytes.Cut(data, []byte(":"))
	lines, filling, _ := bytes.Cut(rest, []byte(":"))
	if n, err := strconv.Atoi(string(lines)); err != nil || n*len(line) != len(filling) || n != bytes.Count(filling, line) {
		return "", fmt.Errorf("%.40q is not a complete message", data)
	}
	return string(topic), nil
}

// of returns the sequences of a topic's messages in order. Concurrent publishers have added
// theirs in any order.
func (h *history) of(topic string) []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(slices.Values(h.seqs[topic]))
}

// record is what one subscriber received over all its connections.
type record struct {
	name      string
	topics    []string
	position  string // the last ID it saw; it resumes after it
	received  []item
	ended     map[string]bool // the topics whose last message it got
	delivered int
	gaps      int
}

// item is a message or a gap.
type item struct {
	// A message's.
	topic string
	seq   uint64

	// A gap's: in some topics; nil means all.
	gap bool
	in  []string
}

func newRecord(name string, topics []string, position string) record {
	return record{name: name, topics: topics, position: position, ended: map[string]bool{}}
}

// letters are the topics of tests that need few.
var letters = []string{"a", "b", "c", "d"}

// someOf draws at least one topic, and at most all but one.
func someOf(topics []string, rng *rand.Rand) (some []string) {
	for _, i := range rng.Perm(len(topics))[:1+rng.IntN(len(topics)-1)] {
		some = append(some, topics[i])
	}
	return some
}

// done reports whether each topic has ended.
func (r *record) done() bool { return len(r.ended) == len(r.topics) }

// message records a message. A message of type "end" is the last of its topic.
func (r *record) message(id, topic, typ string, data []byte) error {
	parsed, err := broadcast.ParseID(id)
	if err != nil {
		return fmt.Errorf("%w: %q", err, id)
	}
	of, err := topicOf(data)
	switch {
	case err != nil:
		return fmt.Errorf("%s on %s: %w", id, topic, err)
	case of != topic:
		return fmt.Errorf("%s on %s carries a message of %s", id, topic, of)
	}
	r.position = id
	r.delivered++
	r.received = append(r.received, item{topic: topic, seq: parsed.Seq()})
	if typ == "end" {
		r.ended[topic] = true
	}
	return nil
}

// gap records a gap.
func (r *record) gap(id string, in []string) {
	r.position = id
	r.gaps++
	r.received = append(r.received, item{gap: true, in: in})
}

// envelope records the content of an envelope. It parses by hand, because encoding/json
// would take most of the test's time.
func (r *record) envelope(data []byte) error {
	field := func(name string) string {
		_, rest, _ := bytes.Cut(data, []byte(`"`+name+`":"`))
		value, _, _ := bytes.Cut(rest, []byte(`"`))
		return string(value)
	}
	for _, kind := range []string{"ready", "position"} {
		if id := field(kind); id != "" {
			r.position = id
			return nil
		}
	}
	id := field("gap")
	if id == "" {
		text := strings.ReplaceAll(field("data"), `\n`, "\n")
		return r.message(field("id"), field("topic"), field("type"), []byte(text))
	}
	in := r.topics
	if bytes.Contains(data, []byte(`"topics"`)) {
		in = slices.DeleteFunc(slices.Clone(in), func(topic string) bool {
			return !bytes.Contains(data, []byte(`"`+topic+`"`))
		})
	}
	r.gap(id, in)
	return nil
}

// check compares what the subscriber received with what was published. It must have got
// each message once and in the order of the log. Where messages of a topic are missing, a
// gap must come before the topic's next message, and nowhere else.
func (r *record) check(h *history) error {
	pending, gap := make(map[string][]uint64), make(map[string]bool)
	for _, topic := range r.topics {
		pending[topic] = h.of(topic)
	}
	last := uint64(0)
	for _, it := range r.received {
		if it.gap {
			if it.in == nil {
				it.in = r.topics
			}
			for _, topic := range it.in {
				gap[topic] = true
			}
			continue
		}
		missing := slices.Index(pending[it.topic], it.seq)
		switch {
		case missing < 0:
			return fmt.Errorf("message %d on %s came twice or out of order, or is of no topic of %v", it.seq, it.topic, r.topics)
		case it.seq <= last:
			return fmt.Errorf("message %d on %s came after %d", it.seq, it.topic, last)
		case missing > 0 && !gap[it.topic]:
			return fmt.Errorf("%d messages on %s are missing before %d, without a gap", missing, it.topic, it.seq)
		case missing == 0 && gap[it.topic]:
			return fmt.Errorf("a gap on %s before %d, where nothing is missing", it.topic, it.seq)
		}
		pending[it.topic] = pending[it.topic][missing+1:]
		gap[it.topic] = false
		last = it.seq
	}
	for topic, missing := range pending {
		if len(missing) > 0 {
			return fmt.Errorf("%d messages on %s are missing at the end", len(missing), topic)
		}
	}
	return nil
}

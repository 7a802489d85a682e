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

// history is what was published in a Hub.
type history struct {
	hub  *broadcast.Hub
	mu   sync.Mutex
	seqs map[string][]uint64 // of each topic's messages
}

// line is what messages are filled with.
var line = []byte("abcdefg\n")

// publish publishes a message of some lines, that says by itself whether it is whole.
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

// topicOf returns the topic that a message's data names.
func topicOf(data []byte) (string, error) {
	topic, rest, _ := bytes.Cut(data, []byte(":"))
	lines, filling, _ := bytes.Cut(rest, []byte(":"))
	if n, err := strconv.Atoi(string(lines)); err != nil || n*len(line) != len(filling) || n != bytes.Count(filling, line) {
		return "", fmt.Errorf("%.40q is not a whole message", data)
	}
	return string(topic), nil
}

// of returns a topic's messages in their order. Publishers that publish at the same time
// add theirs in any.
func (h *history) of(topic string) []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(slices.Values(h.seqs[topic]))
}

// record is what one subscriber was told, through all its connections.
type record struct {
	name      string
	topics    []string
	position  string // the last ID it saw: where it resumes
	told      []told
	ended     map[string]bool // the topics whose last message it has
	delivered int
	gaps      int
}

// told is a message, or a gap in topics; nil: in all.
type told struct {
	topic string
	seq   uint64
	gap   bool
	in    []string
}

func newRecord(name string, topics []string, position string) record {
	return record{name: name, topics: topics, position: position, ended: map[string]bool{}}
}

// letters are topics for tests that need few.
var letters = []string{"a", "b", "c", "d"}

// someOf draws from one topic up to all but one.
func someOf(topics []string, rng *rand.Rand) (some []string) {
	for _, i := range rng.Perm(len(topics))[:1+rng.IntN(len(topics)-1)] {
		some = append(some, topics[i])
	}
	return some
}

// done reports whether each topic has ended.
func (r *record) done() bool { return len(r.ended) == len(r.topics) }

// message notes a message. The one of type "end" is the last of its topic.
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
		return fmt.Errorf("%s on %s holds a message on %s", id, topic, of)
	}
	r.position = id
	r.delivered++
	r.told = append(r.told, told{topic: topic, seq: parsed.Seq()})
	if typ == "end" {
		r.ended[topic] = true
	}
	return nil
}

func (r *record) gap(id string, in []string) {
	r.position = id
	r.gaps++
	r.told = append(r.told, told{gap: true, in: in})
}

// envelope notes what an envelope says. It takes it apart by hand: decoding millions of
// them would be most of a test.
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

// check compares what the subscriber was told with what was published: each message once
// and in the order of all topics, a gap before the next on its topic where some are
// missing, and no gap where none is.
func (r *record) check(h *history) error {
	due, gap := make(map[string][]uint64), make(map[string]bool)
	for _, topic := range r.topics {
		due[topic] = h.of(topic)
	}
	last := uint64(0)
	for _, what := range r.told {
		if what.gap {
			if what.in == nil {
				what.in = r.topics
			}
			for _, topic := range what.in {
				gap[topic] = true
			}
			continue
		}
		missing := slices.Index(due[what.topic], what.seq)
		switch {
		case missing < 0:
			return fmt.Errorf("message %d on %s was seen twice, out of order, or is of no topic of %v", what.seq, what.topic, r.topics)
		case what.seq <= last:
			return fmt.Errorf("message %d on %s came after %d", what.seq, what.topic, last)
		case missing > 0 && !gap[what.topic]:
			return fmt.Errorf("%d messages on %s are missing before %d, and no gap was told", missing, what.topic, what.seq)
		case missing == 0 && gap[what.topic]:
			return fmt.Errorf("a gap on %s was told before %d, where nothing is missing", what.topic, what.seq)
		}
		due[what.topic] = due[what.topic][missing+1:]
		gap[what.topic] = false
		last = what.seq
	}
	for topic, missing := range due {
		if len(missing) > 0 {
			return fmt.Errorf("%d messages on %s are missing at the end", len(missing), topic)
		}
	}
	return nil
}

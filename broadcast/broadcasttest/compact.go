package broadcasttest

import (
	"bytes"
	"slices"

	"github.com/fanfare-go/fanfare/broadcast"
)

// carry is what a compacted log has at a sequence: a message, or an error that says what is
// missing up to there.
type carry struct {
	seq uint64
	msg broadcast.Message
	err error
}

// Compact removes the n oldest entries, or all of them if there are fewer, as Trim does, but keeps
// what is state: the newest value of each Key, and of each topic the newest event with First and
// that with End. From then on the Journal is a [broadcast.Compactor]. Compact panics if n is negative.
func (j *Journal) Compact(n int) {
	mustNotBeNegative(n)
	j.change(func(e *engine) {
		e.compacts = true
		n := min(n, len(e.entries))
		all := e.carried
		for i, entry := range e.entries[:n] {
			all = append(all, carry{seq: e.floor() + 1 + uint64(i), msg: entry.Message})
		}
		e.entries = slices.Clone(e.entries[n:])
		e.carried = compacted(all)
	})
}

// Compacts reports whether Compact was ever called.
func (j *Journal) Compacts() bool {
	e := j.open()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.compacts
}

// compacted returns what is to be kept of entries, which are in order.
func compacted(all []carry) (kept []carry) {
	type place struct{ topic, key string }
	values := make(map[place]carry)
	firsts, ends, lost := make(map[string]carry), make(map[string]carry), make(map[string]carry)
	lose := func(topic string, seq uint64) {
		seq = max(seq, lost[topic].seq)
		lost[topic] = carry{seq: seq, err: &broadcast.CompactedError{Topics: []string{topic}}}
	}
	for _, c := range all {
		m := c.msg
		switch e, isLost := c.err.(*broadcast.CompactedError); {
		case isLost:
			lose(e.Topics[0], c.seq)
		case c.err != nil:
			kept = append(kept, c) // a gap, which is the first of all
		case m.Topic == "":
		case m.Removed:
			delete(values, place{m.Topic, m.Key})
		case m.Key != "":
			values[place{m.Topic, m.Key}] = c
		case m.First:
			firsts[m.Topic] = c
			delete(ends, m.Topic)
			delete(lost, m.Topic)
		case m.End:
			if before, ok := ends[m.Topic]; ok {
				lose(m.Topic, before.seq)
			}
			ends[m.Topic] = c
		default:
			lose(m.Topic, c.seq)
		}
	}
	for _, c := range values {
		kept = append(kept, c)
	}
	for _, list := range []map[string]carry{firsts, ends, lost} {
		for _, c := range list {
			kept = append(kept, c)
		}
	}
	slices.SortFunc(kept, func(a, b carry) int { return int(int64(a.seq) - int64(b.seq)) })
	return kept
}

// nextCarried returns what comes next of what was kept when the Tail began.
func (t *tail) nextCarried() (broadcast.Message, error) {
	at := carry{seq: t.carriedTo + 1}
	if len(t.carried) > 0 {
		at = t.carried[0]
	}
	if at.err == nil && at.seq > t.after.Seq()+1 { // what comes before it was left out
		at = carry{seq: at.seq - 1, err: broadcast.ErrCompacted}
	} else {
		t.carried = t.carried[1:]
	}
	t.after = broadcast.MakeID(t.after.Epoch(), at.seq)
	m := at.msg
	m.ID, m.Data = t.after, bytes.Clone(m.Data)
	return m, at.err
}

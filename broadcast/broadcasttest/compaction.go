package broadcasttest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// testCompaction lets the journal compact everything that is appended, if it has a method Compact
// as [Journal] has. Otherwise the rules hold all the same.
func testCompaction(t *testing.T, j broadcast.Journal) {
	var all []broadcast.Message
	for _, n := range []int{0, 7, 12} {
		var fresh []broadcast.Message
		for i := range 40 {
			fresh = append(fresh, stateMessages(n+i)...)
		}
		ids, err := j.Append(background(t), fresh...)
		require.NoError(t, err)
		for i, m := range fresh {
			m.ID = ids[i]
			all = append(all, m)
		}
		if c, ok := j.(interface{ Compact(n int) }); ok {
			c.Compact(len(fresh) - 25)
		}
		checkState(t, j, all)
	}
	checkOldTail(t, j, all[0].ID)
}

// stateMessages are messages of a few topics, with and without Keys.
func stateMessages(i int) []broadcast.Message {
	key := fmt.Sprint("k", i*i%11)
	ms := []broadcast.Message{
		{Topic: "keys", Key: key, Removed: i%5 == 4, Data: fmt.Append(nil, i)},
		{Topic: "both", Key: key, Data: fmt.Append(nil, i)},
		{Topic: "both", Data: fmt.Append(nil, i)},
		{Topic: "texts", First: true, Data: fmt.Append(nil, i)},
		{Topic: "pieces", First: i%20 == 0, Data: fmt.Append(nil, i)},
	}
	if i == 3 {
		ms = append(ms, broadcast.Message{Topic: "ended", Data: []byte("1")}, broadcast.Message{Topic: "ended", End: true},
			broadcast.Message{Topic: "whole", First: true, End: true, Data: []byte("all")}, broadcast.Message{Topic: "once", Key: "k"})
	}
	return ms
}

// stateOf is what a reader has of a topic.
type stateOf struct {
	values     map[string]broadcast.ID
	first, end broadcast.ID
	events     []broadcast.ID // since first
	partial    broadcast.ID   // up to where events are reported as lost
}

func applyTo(topics map[string]*stateOf, m broadcast.Message) {
	s := topics[m.Topic]
	if s == nil {
		s = &stateOf{values: make(map[string]broadcast.ID)}
		topics[m.Topic] = s
	}
	switch {
	case m.Removed:
		delete(s.values, m.Key)
	case m.Key != "":
		s.values[m.Key] = m.ID
	default:
		if m.First {
			*s = stateOf{values: s.values, first: m.ID}
		}
		if m.End {
			s.end = m.ID
		}
		s.events = append(s.events, m.ID)
	}
}

// checkState checks what a reader has that begins at the beginning.
func checkState(t *testing.T, j broadcast.Journal, all []broadcast.Message) {
	t.Helper()
	want, got := make(map[string]*stateOf), make(map[string]*stateOf)
	for _, m := range all {
		applyTo(want, m)
	}
	newest := all[len(all)-1].ID
	lostAll := broadcast.ID{}
	f := follow(t, j, broadcast.MakeID(newest.Epoch(), 0))
	for f.last != newest {
		m, err, ok := f.pull()
		require.True(t, ok, "the Tail ended after %v", f.last)
		require.Greater(t, m.ID.Seq(), f.last.Seq(), "the sequence")
		compacted, events := errors.AsType[*broadcast.CompactedError](err)
		switch {
		case errors.Is(err, broadcast.ErrGap): // all may be lost up to here
			got, lostAll = make(map[string]*stateOf), m.ID
		case events:
			for _, topic := range compacted.Topics {
				if got[topic] == nil {
					got[topic] = &stateOf{values: make(map[string]broadcast.ID)}
				}
				got[topic].partial = m.ID
			}
			if compacted.Topics == nil {
				for _, s := range got {
					s.partial = m.ID
				}
			}
		case errors.Is(err, broadcast.ErrCompacted):
		default:
			require.NoError(t, err)
			require.Equal(t, f.last.Seq()+1, m.ID.Seq(), "the sequence after %v", f.last)
			applyTo(got, m)
		}
		f.last = m.ID
	}
	for topic, s := range want {
		checkTopic(t, topic, s, got[topic], lostAll)
	}
}

func checkTopic(t *testing.T, topic string, want, got *stateOf, lostAll broadcast.ID) {
	t.Helper()
	if got == nil {
		got = &stateOf{}
	}
	for key, id := range want.values {
		if id.Seq() > lostAll.Seq() {
			require.Equal(t, id, got.values[key], "the value of %s in topic %q", key, topic)
		}
	}
	for key := range got.values {
		require.Contains(t, want.values, key, "a Key of topic %q that has no value any more", topic)
	}
	for what, ids := range map[string][2]broadcast.ID{"First": {want.first, got.first}, "End": {want.end, got.end}} {
		if ids[0].Seq() > lostAll.Seq() {
			require.Equal(t, ids[0], ids[1], "the event with %s of topic %q", what, topic)
		}
	}
	for _, id := range want.events {
		if id.Seq() > lostAll.Seq() && !slices.Contains(got.events, id) {
			require.GreaterOrEqual(t, got.partial.Seq(), id.Seq(), "topic %q lacks the event %v, which is not reported", topic, id)
		}
	}
	if len(got.events) == len(want.events) && lostAll.IsZero() {
		require.Zero(t, got.partial, "topic %q has all events, and is reported to lack some", topic)
	}
}

// checkOldTail checks that a Tail after an old ID yields all that followed, or a gap.
func checkOldTail(t *testing.T, j broadcast.Journal, after broadcast.ID) {
	t.Helper()
	m, err, ok := follow(t, j, after).pull()
	require.True(t, ok)
	if err != nil {
		require.ErrorIs(t, err, broadcast.ErrGap, "the Tail after %v", after)
	} else {
		require.Equal(t, after.Seq()+1, m.ID.Seq(), "the Tail after %v", after)
	}
}

package clustertest

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/fanfare-go/fanfare/broadcast"
)

// check compares what the client got with what the engine has: each message once and in
// order, except where it got a gap, and no gap where nothing is missing. It returns how many
// messages and gaps the client got.
func (c *client) check(t *testing.T, begin broadcast.ID, truth []entry, loses bool) (deliveries, gaps int) {
	t.Helper()
	var want []entry
	for _, e := range truth {
		if slices.Contains(c.topics, e.topic) {
			want = append(want, e)
		}
	}
	got := make(map[broadcast.ID]int) // how often
	for _, r := range c.received {
		if !r.isGap {
			got[r.id]++
			deliveries++
		}
	}
	excused := make(map[broadcast.ID]bool) // missing, with a gap
	last := begin
	for i, r := range c.received {
		if r.id.Epoch() == last.Epoch() {
			assert.GreaterOrEqual(t, r.id.Seq(), last.Seq(), "%s got %v after %v", c.name, r.id, last)
		}
		last = r.id
		if !r.isGap {
			continue
		}
		gaps++
		missing := c.missing(i, begin, want, got)
		for _, id := range missing {
			excused[id] = true
		}
		assert.True(t, len(missing) > 0 || loses, "%s got a gap at %v in %v, and nothing is missing", c.name, r.id, r.gapTopics)
	}
	for _, e := range want {
		if !excused[e.id] {
			assert.Equal(t, 1, got[e.id], "%s and %v, %q", c.name, e.id, e.text)
		}
		delete(got, e.id)
	}
	assert.True(t, len(got) == 0 || loses, "%s got messages that the journal does not have: %v", c.name, got)
	return deliveries, gaps
}

// missing returns which of the wanted messages the i-th element, a gap, stands for. Kept
// messages of other topics may come between the gap and the next message of a topic: the
// gap stands for all that is missing up to that one.
func (c *client) missing(i int, begin broadcast.ID, want []entry, got map[broadcast.ID]int) (ids []broadcast.ID) {
	epoch := want[len(want)-1].id.Epoch()
	seq := func(id broadcast.ID) uint64 {
		if id.Epoch() != epoch {
			return 0 // before everything that there is now
		}
		return id.Seq()
	}
	gap := c.received[i]
	for _, topic := range c.topics {
		if gap.gapTopics != nil && !slices.Contains(gap.gapTopics, topic) {
			continue
		}
		from, to := c.around(i, topic, begin)
		for _, e := range want {
			if e.topic == topic && seq(e.id) > seq(from) && (to.IsZero() || seq(e.id) < seq(to)) && got[e.id] == 0 {
				ids = append(ids, e.id)
			}
		}
	}
	return ids
}

// around returns the messages of a topic that the client got before and after the i-th
// element: begin if there is none before, the zero ID if there is none after.
func (c *client) around(i int, topic string, begin broadcast.ID) (before, after broadcast.ID) {
	before = begin
	for k := i - 1; k >= 0; k-- {
		if c.received[k].topic == topic {
			before = c.received[k].id
			break
		}
	}
	for _, r := range c.received[i+1:] {
		if r.topic == topic {
			return before, r.id
		}
	}
	return before, broadcast.ID{}
}

package broadcasttest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

var topicA = broadcast.SubscribeOptions{Topics: []string{"a"}}

func testKeys(t *testing.T, c Config) {
	b := c.Open(t)
	p := show(t, b, topicA)
	for i := range 3 * c.Keep {
		set(t, b, "x", fmt.Sprint("x ", i))
		if i%4 == 0 {
			set(t, b, "y", fmt.Sprint("y ", i))
		}
	}
	publish(t, b, "a", "event")
	remove(t, b, "z")
	head := settle(t, b)
	ms, err := p.poll(8, 8)
	require.NoError(t, err, "what a newer message of the Key replaces is no loss")
	require.Equal(t, []string{"y", "x", "event", "z"}, keysOf(ms), "in the order of their IDs")
	require.Equal(t, map[string]string{"x": fmt.Sprint("x ", 3*c.Keep-1), "y": fmt.Sprint("y ", (3*c.Keep-1)/4*4)}, p.values)
	require.Equal(t, head, p.s.sub.Position(), "Position once all has been returned")
	require.Empty(t, p.drain(8))
}

func testRound(t *testing.T, c Config) {
	b := c.Open(t)
	p := show(t, b, topicA)
	begin := p.s.sub.Position()
	publish(t, b, "a", "event 1")
	for _, key := range []string{"u", "v", "w", "x"} {
		set(t, b, key, "first")
	}
	event := publish(t, b, "a", "event 2")
	settle(t, b)
	poll := func(position broadcast.ID, want ...string) {
		t.Helper()
		ms, err := p.poll(2, 2)
		require.NoError(t, err)
		require.Equal(t, want, keysOf(ms))
		require.Equal(t, position, p.s.sub.Position())
	}
	poll(begin, "u", "v")
	set(t, b, "u", "second") // it has been returned: the next round
	set(t, b, "x", "second") // it has not
	set(t, b, "y", "first")  // it came after the round had begun
	publish(t, b, "a", "event 3")
	settle(t, b)
	poll(begin, "w", "x")
	require.Equal(t, "second", p.values["x"], "a Key is returned as it is when it is its turn")
	poll(event, "event 1", "event 2")
	ms, err := p.poll(8, 8)
	require.NoError(t, err)
	require.Equal(t, []string{"u", "x", "y", "event 3"}, keysOf(ms), "the next round")
	require.Equal(t, map[string]string{"u": "second", "v": "first", "w": "first", "x": "second", "y": "first"}, p.values)
	require.Empty(t, p.drain(8))
}

func testFairRounds(t *testing.T, c Config) {
	b := c.Open(t)
	p := show(t, b, topicA)
	const keys = 8
	for i := range keys {
		set(t, b, fmt.Sprint("k", i), "0")
	}
	// One Key changes all the time, the others in turn, and new ones come: faster than the page
	// reads.
	returned := make(map[string]int)
	turn, fresh := 0, 0
	for poll := range 20 * keys {
		set(t, b, "k0", fmt.Sprint(poll))
		for range 3 {
			turn++
			set(t, b, fmt.Sprint("k", turn%keys), fmt.Sprint(turn))
		}
		if poll%8 == 0 && fresh < 4 {
			fresh++
			set(t, b, fmt.Sprint("new", fresh), "0")
		}
		settle(t, b)
		ms, err := p.poll(2, 2)
		require.NoError(t, err)
		for _, m := range ms {
			returned[m.Key] = poll
		}
		if poll > 2*keys {
			for i := range keys {
				require.Less(t, poll-returned[fmt.Sprint("k", i)], 2*keys, "how many Polls ago k%d was returned", i)
			}
		}
	}
	require.Empty(t, p.drain(2))
	want := map[string]string{}
	fill := show(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}, Beginning: true})
	fill.drain(64)
	for key, value := range fill.values {
		want[key] = value
	}
	require.Equal(t, want, p.values, "in the end")
}

func testCutInRound(t *testing.T, c Config) {
	b := c.Open(t)
	for _, size := range []int{1, 3, 64} { // with the last, everything fits in one Poll
		for cut := range 12 {
			p := show(t, b, topicA)
			publish(t, b, "a", "event 1")
			for i := range 5 {
				set(t, b, fmt.Sprint("k", i), fmt.Sprint(size, cut))
			}
			remove(t, b, "k1")
			set(t, b, "k0", fmt.Sprint(size, cut, "again"))
			publish(t, b, "a", "event 2")
			settle(t, b)
			for left := cut; left > 0; {
				ms, err := p.poll(size, left)
				require.NoError(t, err)
				if left -= len(ms); len(ms) == 0 {
					break
				}
			}
			p = p.reopen(b, topicA)
			set(t, b, "k2", "then")
			settle(t, b)
			require.Empty(t, p.drain(2))
			require.Equal(t, map[string]string{"k0": fmt.Sprint(size, cut, "again"), "k2": "then", "k3": fmt.Sprint(size, cut), "k4": fmt.Sprint(size, cut)}, p.values,
				"cut after %d messages, with a buffer of %d", cut, size)
			require.Equal(t, []string{"event 1", "event 2"}, p.events, "cut after %d messages, with a buffer of %d", cut, size)
		}
	}
}

func testRemovals(t *testing.T, c Config) {
	b := c.Open(t)
	all := broadcast.SubscribeOptions{Topics: []string{"a"}, Beginning: true}
	set(t, b, "before", "1")
	set(t, b, "set again", "1")
	remove(t, b, "set again")
	remove(t, b, "before")
	remove(t, b, "never set")
	set(t, b, "stays", "1")
	set(t, b, "passed", "1")
	set(t, b, "not passed", "1")
	set(t, b, "set again", "2")
	settle(t, b)
	p := show(t, b, all)
	ms, _ := p.beginning(2)
	require.Equal(t, []string{"set again", "stays"}, keysOf(ms), "a beginning has no removals, and Keys stay where they are")
	set(t, b, "passed", "2")
	settle(t, b)
	ms, err := p.poll(1, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"passed"}, keysOf(ms))
	remove(t, b, "passed")
	remove(t, b, "not passed")
	settle(t, b)
	ms, err = p.poll(8, 8)
	require.NoError(t, err)
	require.Equal(t, []string{"passed", "not passed"}, keysOf(ms), "the round after a beginning has the removals since")
	require.Empty(t, p.drain(8))
	require.Equal(t, map[string]string{"stays": "1", "set again": "2"}, p.values)
}

func testValuesKept(t *testing.T, c Config) {
	if c.Values == 0 {
		t.Skip("no Config.Values")
	}
	b := c.Open(t)
	away := listen(t, b, "a")
	behind, reader := show(t, b, topicA), show(t, b, topicA)
	for i := range c.Values {
		set(t, b, fmt.Sprint("k", i), "1")
		remove(t, b, fmt.Sprint("gone", i)) // they count by themselves
	}
	head := settle(t, b)
	require.Empty(t, reader.drain(3))
	require.Len(t, reader.values, c.Values)
	set(t, b, "one more", "1")
	settle(t, b)
	require.Empty(t, reader.drain(3), "it had the value that was evicted")
	errs := behind.drain(3)
	require.Len(t, errs, 1, "a value was evicted before it was returned")
	require.ErrorIs(t, errs[0], broadcast.ErrGap)
	require.Len(t, behind.values, c.Values)
	remove(t, b, "one more removal")
	settle(t, b)
	_, err := away.sub.Poll(make([]*broadcast.Message, 1))
	var gap *broadcast.GapError
	require.ErrorAs(t, err, &gap)
	require.Equal(t, away.sub.Position(), gap.ID, "GapError.ID where not all fits")
	require.Empty(t, show(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}, After: head}).drain(1), "a position after what was evicted")

	// k0 is missing until it is set, or removed.
	partial := func() []string {
		settle(t, b)
		_, begin := show(t, b, broadcast.SubscribeOptions{Topics: []string{"a", "b"}, Beginning: true}).beginning(4)
		return begin.Partial
	}
	require.Equal(t, []string{"a"}, partial())
	remove(t, b, "k1")
	remove(t, b, "k0")
	require.Empty(t, partial())
}

func testSlots(t *testing.T, c Config) {
	if c.Values == 0 {
		t.Skip("no Config.Values")
	}
	b := c.Open(t)
	p := show(t, b, topicA)
	for i := range c.Values {
		set(t, b, fmt.Sprint("k", i), "1")
	}
	settle(t, b)
	_, err := p.poll(2, 2)
	require.NoError(t, err)
	// New Keys evict all others, in the middle of a round: their places are closed up. The
	// first comes back at the end.
	for i := range c.Values {
		set(t, b, fmt.Sprint("n", i), "1")
	}
	set(t, b, "k0", "2")
	settle(t, b)
	errs := p.drain(2)
	require.NotEmpty(t, errs)
	for _, err := range errs {
		require.ErrorIs(t, err, broadcast.ErrGap)
	}
	require.Equal(t, "2", p.values["k0"])
	for i := 1; i < c.Values; i++ {
		require.Contains(t, p.values, fmt.Sprint("n", i))
	}
	require.Equal(t, settle(t, b).Epoch(), p.id.Epoch())
}

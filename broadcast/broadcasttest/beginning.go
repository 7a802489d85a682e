package broadcasttest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

var beginning = broadcast.SubscribeOptions{Topics: []string{"a", "b"}, Beginning: true}

func testBeginning(t *testing.T, c Config) {
	b := c.Open(t)
	p := show(t, b, beginning)
	ms, begin := p.beginning(4)
	require.Empty(t, ms, "a beginning without messages")
	require.Equal(t, &broadcast.BeginError{}, begin)
	require.Empty(t, p.drain(4))

	publish(t, b, "a", "before")
	set(t, b, "x", "1")
	send(t, b, broadcast.Message{Topic: "a", First: true, Data: []byte("first")})
	publish(t, b, "b", "b 1")
	set(t, b, "y", "1")
	publish(t, b, "a", "second")
	settle(t, b)
	p = show(t, b, beginning)
	require.Equal(t, broadcast.MakeID(1, 0), p.s.sub.Position())
	ms, begin = p.beginning(2)
	require.Equal(t, &broadcast.BeginError{}, begin)
	require.Equal(t, []string{"first", "b 1"}, keysOf(ms), "first the events, from the newest First on")
	poll := func(want string) {
		t.Helper()
		ms, err := p.poll(1, 1)
		require.NoError(t, err)
		require.Equal(t, []string{want}, keysOf(ms))
		require.Equal(t, broadcast.MakeID(1, 0), p.s.sub.Position(), "with the last messages too")
	}
	poll("second")
	poll("x") // then the values
	set(t, b, "y", "2")
	set(t, b, "z", "1") // came after the beginning had reached its topic
	publish(t, b, "a", "then")
	settle(t, b)
	poll("y")
	ms, err := p.poll(8, 8)
	require.NoError(t, err)
	require.Equal(t, []string{"y", "z", "then"}, keysOf(ms), "and what changed meanwhile")
	require.Equal(t, map[string]string{"x": "1", "y": "2", "z": "1"}, p.values)
	require.Equal(t, []string{"first", "b 1", "second", "then"}, p.events)
	require.Empty(t, p.drain(8))
}

func testBeginningOrResume(t *testing.T, c Config) {
	b := c.Open(t)
	id := set(t, b, "x", "1")
	set(t, b, "y", "1")
	settle(t, b)
	p := show(t, b, broadcast.SubscribeOptions{Topics: beginning.Topics, Beginning: true, After: id})
	ms, err := p.poll(4, 4)
	require.NoError(t, err, "a resume")
	require.Equal(t, []string{"y"}, keysOf(ms))
	for name, after := range map[string]broadcast.ID{
		"another epoch": broadcast.MakeID(id.Epoch()^2, 1), "unknown": broadcast.MakeID(1, 0),
	} {
		p := show(t, b, broadcast.SubscribeOptions{Topics: beginning.Topics, Beginning: true, After: after})
		ms, err := p.poll(4, 4)
		for err == nil {
			require.Empty(t, ms)
			waitFor(t, p.s.notified, "a call of Notify")
			ms, err = p.poll(4, 4)
		}
		require.ErrorIs(t, err, broadcast.ErrBegin, name)
		require.Equal(t, []string{"x", "y"}, keysOf(ms), name)
	}
}

func testCutInBeginning(t *testing.T, c Config) {
	b := c.Open(t)
	publish(t, b, "a", "event 1")
	publish(t, b, "b", "event 2")
	for i := range 4 {
		set(t, b, fmt.Sprint("k", i), "1")
	}
	settle(t, b)
	for _, size := range []int{1, 3} {
		for cut := range 8 {
			p := show(t, b, beginning)
			p.beginning(size)
			for left := cut; left > 0; {
				ms, err := p.poll(size, left)
				require.NoError(t, err)
				if left -= len(ms); len(ms) == 0 {
					break
				}
			}
			p = p.reopen(b, beginning)
			p.drain(size)
			require.Equal(t, map[string]string{"k0": "1", "k1": "1", "k2": "1", "k3": "1"}, p.values)
			require.Equal(t, []string{"event 1", "event 2"}, p.events)
		}
	}
}

func testBeginningInsteadOfGap(t *testing.T, c Config) {
	b := c.Open(t)
	set(t, b, "x", "1")
	publish(t, b, "b", "b 1")
	settle(t, b)
	p := show(t, b, beginning)
	require.Len(t, p.drain(4), 1)
	publishMany(t, b, "a", c.Keep+1)
	settle(t, b)
	ms, begin := p.beginning(2)
	require.Equal(t, &broadcast.BeginError{Partial: []string{"a"}}, begin, "all topics begin, and one lacks an event")
	require.Equal(t, []string{"b 1", "a 1"}, keysOf(ms))
	require.Empty(t, p.drain(64))
	require.Equal(t, map[string]string{"x": "1"}, p.values)
	require.Zero(t, p.gaps, "the number of gaps")

	// First makes the topic whole again, and what it stands for is no loss.
	publishMany(t, b, "a", c.Keep+1)
	send(t, b, broadcast.Message{Topic: "a", First: true, Data: []byte("all")})
	settle(t, b)
	require.Empty(t, p.drain(4))
	require.Equal(t, []string{"all"}, p.events[len(p.events)-1:])
	_, begin = show(t, b, beginning).beginning(4)
	require.Empty(t, begin.Partial)
}

func testLossInBeginning(t *testing.T, c Config) {
	b := c.Open(t)
	publishMany(t, b, "a", 4)
	set(t, b, "x", "1")
	settle(t, b)
	p := show(t, b, beginning)
	for range 3 {
		ms, begin := p.beginning(1)
		require.Nil(t, begin.Topics)
		require.Len(t, ms, 1)
		publishMany(t, b, "a", c.Keep) // evicts what this beginning has still to return
		settle(t, b)
	}
	for range 2 {
		_, err := p.poll(1, 1)
		require.ErrorIs(t, err, broadcast.ErrSlow, "instead of a fourth beginning")
	}
	p = p.reopen(b, beginning)
	p.drain(64)
	require.Equal(t, map[string]string{"x": "1"}, p.values)
	require.Equal(t, many("a", 0, c.Keep), p.events)

	// A removal that came after the beginning had started counts as well.
	if c.Values > 0 {
		b := c.Open(t)
		set(t, b, "removed", "1")
		set(t, b, "stays", "1")
		settle(t, b)
		p := show(t, b, beginning)
		ms, _ := p.beginning(1)
		require.Equal(t, []string{"removed"}, keysOf(ms))
		remove(t, b, "removed")
		for i := range c.Values {
			remove(t, b, fmt.Sprint("never set ", i))
		}
		settle(t, b)
		_, begin := p.beginning(1)
		require.Nil(t, begin.Topics)
		p.drain(8)
		require.Equal(t, map[string]string{"stays": "1"}, p.values)
	}

	// A round in between begins the count anew.
	for range 5 {
		publishMany(t, b, "a", c.Keep+1)
		settle(t, b)
		require.Len(t, p.drain(64), 1)
		require.Empty(t, p.drain(64))
	}
}

func testBeginningWithEvents(t *testing.T, c Config) {
	b := c.Open(t)
	for i := range 8 {
		set(t, b, fmt.Sprint("k", i), "1")
	}
	publishMany(t, b, "b", c.Keep)
	settle(t, b)
	p := show(t, b, beginning)
	ms, begin := p.beginning(c.Keep)
	require.Nil(t, begin.Partial)
	require.Equal(t, many("b", 0, c.Keep), keysOf(ms))
	// While the values come, as many events may be published as are kept.
	var want []string
	for i := range 8 {
		want = append(want, fmt.Sprint("then ", i))
		publish(t, b, "b", want[i])
		settle(t, b)
		_, err := p.poll(1, 1)
		require.NoError(t, err)
	}
	require.Empty(t, p.drain(64))
	require.Len(t, p.values, 8)
	require.Equal(t, append(many("b", 0, c.Keep), want...), p.events)
}

func testBeginningOfAddedTopics(t *testing.T, c Config) {
	b := c.Open(t)
	set(t, b, "x", "1")
	set(t, b, "y", "1")
	publish(t, b, "b", "b 1")
	for _, key := range []string{"u", "v"} {
		send(t, b, broadcast.Message{Topic: "c", Key: key, Data: []byte("1")})
	}
	publish(t, b, "c", "c 1")
	settle(t, b)
	p := show(t, b, beginning)
	require.Len(t, p.drain(4), 1)
	require.Equal(t, []string{"b 1"}, p.events)

	position := set(t, b, "x", "2")
	remove(t, b, "y")
	publish(t, b, "b", "b 2")
	settle(t, b)
	require.Less(t, p.s.sub.Position().Seq(), position.Seq())
	p.s.setTopics("a", "b", "c")
	ms, begin := p.beginning(1)
	require.Equal(t, []string{"c"}, begin.Topics)
	require.Equal(t, []string{"c 1"}, keysOf(ms))

	// A change in the middle: c was interrupted, and d is added.
	send(t, b, broadcast.Message{Topic: "d", Key: "k", Data: []byte("1")})
	head := settle(t, b)
	p.s.setTopics("d", "c", "b", "a")
	ms, begin = p.beginning(2)
	require.Equal(t, []string{"d", "c"}, begin.Topics)
	require.Equal(t, []string{"c 1", "b 2"}, keysOf(ms), "the events of both")
	var rest []string
	for len(rest) < 5 {
		ms, err := p.poll(2, 2)
		require.NoError(t, err)
		require.Equal(t, broadcast.MakeID(1, 0), p.s.sub.Position())
		rest = append(rest, keysOf(ms)...)
	}
	require.ElementsMatch(t, []string{"x", "y", "u", "v", "k"}, rest, "the others go on after their position, with removals")
	require.Empty(t, p.drain(4))
	require.Equal(t, head, p.s.sub.Position())
	require.Equal(t, map[string]string{"x": "2", "u": "1", "v": "1", "k": "1"}, p.values)

	p.s.setTopics("b")
	require.Empty(t, p.drain(4), "nothing begins where none is added")
}

func testTopicsRemovedInBeginning(t *testing.T, c Config) {
	b := c.Open(t)
	send(t, b, broadcast.Message{Topic: "c", Key: "k", Data: []byte("1")})
	for cut := range 8 {
		before := fmt.Sprint("before ", cut)
		send(t, b, broadcast.Message{Topic: "b", First: true, Data: []byte(before)})
		settle(t, b)
		p := show(t, b, beginning)
		p.drain(4)
		for _, key := range []string{"x", "y", "z"} {
			set(t, b, key, before)
		}
		event := fmt.Sprint("event ", cut)
		publish(t, b, "b", event)
		head := settle(t, b)
		p.s.setTopics("a", "b", "c")
		p.id = broadcast.ID{} // it comes back without a position until all has begun
		_, begin := p.beginning(1)
		require.Equal(t, []string{"c"}, begin.Topics)
		require.Equal(t, []string{before, event}, p.events)
		p.s.setTopics("a", "b")
		for range cut {
			_, err := p.poll(1, 1)
			require.NoError(t, err)
		}
		if cut == 7 {
			require.Equal(t, head, p.s.sub.Position(), "once all has been returned")
		}
		p = p.reopen(b, beginning)
		p.drain(4)
		require.Equal(t, map[string]string{"x": before, "y": before, "z": before}, p.values, "cut after %d messages", cut)
		require.Equal(t, []string{before, event}, p.events, "cut after %d messages", cut)
	}
}

func testEnd(t *testing.T, c Config) {
	b := c.Open(t)
	p, both := show(t, b, topicA), show(t, b, broadcast.SubscribeOptions{Topics: []string{"a", "b"}})
	set(t, b, "x", "1")
	publish(t, b, "a", "one")
	end := send(t, b, broadcast.Message{Topic: "a", End: true, Data: []byte("two")})
	head := settle(t, b)
	for _, m := range []broadcast.Message{{Topic: "a"}, {Topic: "a", Key: "x"}, {Topic: "a", End: true}} {
		_, err := b.Publish(background(t), m)
		require.ErrorIs(t, err, broadcast.ErrEnded)
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
	}
	errs := p.drain(2)
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], broadcast.ErrEnded, "after the last message")
	require.Equal(t, []string{"one", "two"}, p.events)
	require.Equal(t, head, p.s.sub.Position())
	_, err := p.poll(2, 2)
	require.ErrorIs(t, err, broadcast.ErrEnded)
	require.Empty(t, both.drain(2), "another topic has not ended")

	again := show(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}, After: end})
	require.ErrorIs(t, again.drain(2)[0], broadcast.ErrEnded, "a return to where nothing follows")
	begun := show(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}, Beginning: true})
	errs = begun.drain(2)
	require.ErrorIs(t, errs[0], broadcast.ErrBegin)
	require.ErrorIs(t, errs[1], broadcast.ErrEnded)
	require.Equal(t, []string{"one", "two"}, begun.events)
	require.Equal(t, map[string]string{"x": "1"}, begun.values)

	// First lets it go on, and may itself be the end.
	send(t, b, broadcast.Message{Topic: "a", First: true, Data: []byte("new")})
	settle(t, b)
	publish(t, b, "a", "more")
	settle(t, b)
	require.Empty(t, both.drain(4))
	require.Equal(t, []string{"new", "more"}, both.events)
	send(t, b, broadcast.Message{Topic: "a", First: true, End: true, Data: []byte("whole")})
	settle(t, b)
	begun = show(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}, Beginning: true})
	require.ErrorIs(t, begun.drain(2)[1], broadcast.ErrEnded)
	require.Equal(t, []string{"whole"}, begun.events)
}

func testLastValues(t *testing.T, c Config) {
	b := c.Open(t)
	set(t, b, "x", "1")
	publish(t, b, "a", "one")
	set(t, b, "y", "1")
	remove(t, b, "z")
	publish(t, b, "a", "two")
	send(t, b, broadcast.Message{Topic: "b", Key: "k", Data: []byte("1")})
	head := settle(t, b)
	p := show(t, b, broadcast.SubscribeOptions{Topics: []string{"a", "b"}, Last: 3})
	require.Equal(t, head, p.s.sub.Position())
	set(t, b, "y", "2")
	settle(t, b)
	var got []string
	for len(got) < 4 {
		ms, err := p.poll(2, 2)
		require.NoError(t, err)
		require.Equal(t, head, p.s.sub.Position())
		got = append(got, keysOf(ms)...)
	}
	require.Equal(t, []string{"one", "y", "two", "k"}, got, "events and live values together")
	ms, err := p.poll(2, 2)
	require.NoError(t, err)
	require.Equal(t, []string{"y"}, keysOf(ms))
}

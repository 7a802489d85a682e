package broadcasttest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func testChangesInRound(t *testing.T, c Config) {
	b := c.Open(t)
	p := show(t, b, topicA)
	for _, key := range []string{"passed", "u", "v", "not passed"} {
		set(t, b, key, "1")
	}
	settle(t, b)
	_, err := p.poll(2, 2)
	require.NoError(t, err)
	for _, key := range []string{"passed", "not passed"} {
		remove(t, b, key)
		set(t, b, key, "2")
	}
	remove(t, b, "u") // which has been returned
	remove(t, b, "v")
	settle(t, b)
	ms, err := p.poll(2, 2)
	require.NoError(t, err)
	require.Equal(t, []string{"v", "not passed"}, keysOf(ms))
	require.True(t, ms[0].Removed)
	require.Equal(t, map[string]string{"passed": "1", "u": "1", "not passed": "2"}, p.values)
	ms, err = p.poll(8, 8)
	require.NoError(t, err)
	require.Equal(t, []string{"passed", "not passed", "u", "v"}, keysOf(ms), "the next round, in the order of their IDs")
	require.Equal(t, map[string]string{"passed": "2", "not passed": "2"}, p.values)
	require.Empty(t, p.drain(8))
}

func testFirstBetweenPolls(t *testing.T, c Config) {
	b := c.Open(t)
	p := show(t, b, topicA)
	set(t, b, "x", "1")
	publishMany(t, b, "a", 4)
	settle(t, b)
	for range 3 {
		_, err := p.poll(1, 1)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"a 0", "a 1"}, p.events)
	send(t, b, broadcast.Message{Topic: "a", First: true, Data: []byte("all")})
	publish(t, b, "a", "then")
	head := settle(t, b)
	require.Empty(t, p.drain(1), "what First stands for is no loss")
	require.Equal(t, []string{"all", "then"}, p.events)
	require.Equal(t, map[string]string{"x": "1"}, p.values, "First does not concern Keys")
	require.Equal(t, head, p.s.sub.Position())

	back := show(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}, After: broadcast.MakeID(head.Epoch(), 1)})
	require.Empty(t, back.drain(4), "nor is it for a position before it")
	require.Equal(t, []string{"all", "then"}, back.events)
}

// testPartsOfRounds lets something happen after each message of a round and of a beginning.
func testPartsOfRounds(t *testing.T, c Config) {
	for name, happen := range map[string]func(*testing.T, broadcast.Broadcaster, *page) bool{
		"the end": endInRound, "other topics": changeInRound, "a loss": c.loseInRound,
	} {
		b := c.Open(t)
		for _, begins := range []bool{false, true} {
			for after := range 8 {
				for _, size := range []int{1, 3} {
					at := fmt.Sprintf("%s after %d messages, with a buffer of %d, Beginning %v", name, after, size, begins)
					p := inRound(t, b, at, begins, size, after)
					if happen(t, b, p) {
						require.Equal(t, map[string]string{"u": at, "v": at, "w": at, "x": at}, p.values)
						require.Equal(t, []string{"one", "two"}, p.events, at)
					}
					p.s.close()
				}
			}
		}
	}
}

// inRound returns a page that has read so many messages of a round or a beginning of six. The
// values are at.
func inRound(t *testing.T, b broadcast.Broadcaster, at string, begins bool, size, after int) *page {
	opts := broadcast.SubscribeOptions{Topics: []string{"a"}, Beginning: begins}
	var p *page
	if !begins {
		p = show(t, b, opts)
	}
	send(t, b, broadcast.Message{Topic: "a", First: true, Data: []byte("one")})
	for _, key := range []string{"u", "v", "w", "x"} {
		set(t, b, key, at)
	}
	publish(t, b, "a", "two")
	settle(t, b)
	if begins {
		p = show(t, b, opts)
	}
	for left := after; left > 0; {
		ms, err := p.poll(size, size)
		if left -= len(ms); len(ms) == 0 && err == nil {
			break
		}
	}
	return p
}

// endInRound finishes the subscription, after which something is published that it does not return.
func endInRound(t *testing.T, b broadcast.Broadcaster, p *page) bool {
	finisher, ok := p.s.sub.(broadcast.Finisher)
	if !ok {
		return false
	}
	finisher.Finish()
	publish(t, b, "a", "after the end")
	settle(t, b)
	errs := p.drain(2)
	require.ErrorIs(t, errs[len(errs)-1], broadcast.ErrClosed)
	return true
}

func changeInRound(t *testing.T, b broadcast.Broadcaster, p *page) bool {
	send(t, b, broadcast.Message{Topic: "c", First: true})
	settle(t, b)
	p.s.setTopics("c", "a")
	p.s.setTopics("a")
	p.drain(2)
	return true
}

// loseInRound lets an event be evicted that the page may not have had, and makes the topic whole.
func (c Config) loseInRound(t *testing.T, b broadcast.Broadcaster, p *page) bool {
	publishMany(t, b, "a", c.Keep+1)
	settle(t, b)
	before, lost := len(p.events), p.gaps+len(p.begins)
	p.drain(2)
	if before < 2 {
		require.Greater(t, p.gaps+len(p.begins), lost, "an event was evicted before it was returned, and nothing reports it")
	}
	require.Equal(t, fmt.Sprint("a ", c.Keep), p.events[len(p.events)-1])
	require.Len(t, p.values, 4)
	return false
}

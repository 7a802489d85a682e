package broadcast_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// keptOf returns what a beginning of a topic has.
func keptOf(t *testing.T, hub *broadcast.Hub, topic string) (all []string) {
	sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{topic}, Beginning: true})
	require.NoError(t, err)
	defer sub.Close()
	for {
		texts, err := pollTexts(sub)
		if all = append(all, texts...); len(texts) == 0 && err == nil {
			return all
		}
	}
}

// The longest prefix of a topic says what is kept of it. What that leaves open is as for all.
func TestRetentionByPrefix(t *testing.T) {
	hub := &broadcast.Hub{Keep: 3, Values: 2, Retain: map[string]broadcast.Retention{
		"prices":      {Values: 4},
		"prices.test": {Keep: 1, Values: 1},
		"chat":        {Keep: 5},
	}}
	defer hub.Close()
	for topic, want := range map[string][2]int{
		"other": {3, 2}, "price": {3, 2}, "prices": {3, 4}, "prices.eu": {3, 4}, "prices.test.eu": {1, 1}, "chat": {5, 2},
	} {
		for i := range 10 {
			for _, key := range []string{"", fmt.Sprint("k", i)} {
				_, err := hub.Publish(t.Context(), broadcast.Message{Topic: topic, Key: key})
				require.NoError(t, err)
			}
		}
		assert.Len(t, keptOf(t, hub, topic), want[0]+want[1], topic)
		events := 0
		for _, text := range keptOf(t, hub, topic) {
			if text == "" {
				events++
			}
		}
		assert.Equal(t, want[0], events, topic)
	}
}

// What cannot be kept is an error of the first use, which names the field.
func TestRetentionIsValidated(t *testing.T) {
	for name, hub := range map[string]*broadcast.Hub{
		`Hub.Values is -1`:                  {Values: -1},
		`Hub.Retain["prices"].Keep is -2`:   {Retain: map[string]broadcast.Retention{"a": {Keep: 1}, "prices": {Keep: -2}}},
		`Hub.Retain["prices"].Values is -3`: {Retain: map[string]broadcast.Retention{"prices": {Values: -3, TTL: -1}}},
	} {
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a"})
		assert.ErrorContains(t, err, name)
		assert.ErrorIs(t, err, broadcast.ErrNotPublished)
		_, err = hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}})
		assert.ErrorContains(t, err, name)
	}
}

// Topics are forgotten after their own TTL, whichever other topics are unused, or never.
func TestRetentionTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &broadcast.Hub{TopicTTL: time.Hour, Retain: map[string]broadcast.Retention{"short": {TTL: time.Minute}, "ever": {TTL: -1}}}
		defer hub.Close()
		publish := func(topic, key string) {
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: topic, Key: key})
			require.NoError(t, err)
		}
		publish("ever", "k")
		publish("other", "k") // the timer is set for this one
		time.Sleep(time.Second)
		publish("short", "k")
		publish("short 2", "")
		publish("short 3", "k")
		sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"short 3"}})
		require.NoError(t, err)
		topics := func(after time.Duration) int {
			time.Sleep(after)
			synctest.Wait()
			return hub.Stats().Topics
		}
		require.Equal(t, 5, topics(59*time.Second))
		require.Equal(t, 3, topics(2*time.Second))
		require.NoError(t, sub.Close())
		require.Equal(t, 2, topics(62*time.Second))
		require.Equal(t, 1, topics(time.Hour))
		require.Equal(t, 1, topics(1000*time.Hour))
	})
}

// A topic that was forgotten and is made anew has lost what it had: a position before that has a
// loss, and a beginning lacks it, until an event with First.
func TestKeysOfAForgottenTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &broadcast.Hub{TopicTTL: time.Minute}
		defer hub.Close()
		publish := func(m broadcast.Message) broadcast.ID {
			m.Topic = "a"
			id, err := hub.Publish(t.Context(), m)
			require.NoError(t, err)
			return id
		}
		poll := func(after broadcast.ID, begins bool) (keys []string, err error) {
			sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}, After: after, Beginning: begins})
			require.NoError(t, err)
			defer sub.Close()
			buf := make([]*broadcast.Message, 8)
			n, err := sub.Poll(buf)
			for _, m := range buf[:n] {
				keys = append(keys, m.Key)
			}
			return keys, err
		}
		passed := publish(broadcast.Message{Key: "passed"})
		old := publish(broadcast.Message{Key: "old"})
		time.Sleep(2 * time.Minute)
		require.Zero(t, hub.Stats().Topics)
		publish(broadcast.Message{Key: "new"})

		keys, err := poll(old, false)
		require.NoError(t, err, "nothing after it was lost")
		require.Equal(t, []string{"new"}, keys)
		keys, err = poll(passed, false)
		require.ErrorIs(t, err, broadcast.ErrGap)
		require.Equal(t, []string{"new"}, keys)
		keys, err = poll(passed, true)
		require.Equal(t, &broadcast.BeginError{Partial: []string{"a"}}, err)
		require.Equal(t, []string{"new"}, keys)
		publish(broadcast.Message{First: true})
		_, err = poll(broadcast.ID{}, true)
		require.Equal(t, &broadcast.BeginError{}, err, "its publisher vouches for what was before")
	})
}

// Events do not take the place of values, nor values more than half of it where there are events.
func TestKeepBytesIsShared(t *testing.T) {
	const cost = 300 + 1 + 3 // of a value
	hub := &broadcast.Hub{Keep: 1000, KeepBytes: 100 * cost}
	defer hub.Close()
	sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"a", "b"}}) // topics with subscriptions do not count
	require.NoError(t, err)
	defer sub.Close()
	publish := func(topic string, n int, key string) {
		for i := range n {
			if key != "" {
				key = fmt.Sprintf("k%02d", i)
			}
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: topic, Key: key})
			require.NoError(t, err)
		}
	}
	publish("a", 40, "k")
	publish("b", 1000, "")
	require.Len(t, keptOf(t, hub, "a"), 40, "values are less than half")
	require.InDelta(t, 90, len(keptOf(t, hub, "b")), 2, "events have the rest")
	publish("a", 100, "k")
	require.InDelta(t, 50, len(keptOf(t, hub, "a")), 1, "values have half")
	require.InDelta(t, 75, len(keptOf(t, hub, "b")), 2, "and events the other")
	require.LessOrEqual(t, hub.Stats().Bytes, hub.KeepBytes)
}

// Messages hands a beginning on, and goes on; the end is the last.
func TestMessagesWithBeginning(t *testing.T) {
	var hub broadcast.Hub
	defer hub.Close()
	for _, m := range []broadcast.Message{{Topic: "a", Key: "k", Data: []byte("1")}, {Topic: "a", Data: []byte("all"), First: true, End: true}} {
		_, err := hub.Publish(t.Context(), m)
		require.NoError(t, err)
	}
	var got []string
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for m, err := range broadcast.Messages(ctx, &hub, broadcast.SubscribeOptions{Topics: []string{"a"}, Beginning: true}) {
		switch {
		case errors.Is(err, broadcast.ErrBegin):
			got = append(got, "begin")
		case errors.Is(err, broadcast.ErrEnded):
			got = append(got, "ended")
		case err != nil:
			got = append(got, err.Error())
		default:
			got = append(got, string(m.Data))
		}
	}
	require.Equal(t, []string{"begin", "all", "1", "ended"}, got)
}

// The places of Keys that were evicted are closed up, so that ever-new Keys take no memory and no
// time of readers.
func TestPlacesOfEvictedKeysAreClosedUp(t *testing.T) {
	hub := &broadcast.Hub{Values: 10}
	defer hub.Close()
	for i := range 10_000 {
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Key: fmt.Sprint(i), Removed: i%3 == 0})
		require.NoError(t, err)
		require.LessOrEqual(t, hub.Slots("a"), 2*(10+10)+1)
	}
}

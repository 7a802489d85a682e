package broadcast_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// A Poll that comes while the wake-ups of a message are underway returns the message, and
// nothing newer before it.
func TestPollAheadOfItsWakeUp(t *testing.T) {
	both := []string{"a", "b"}
	for _, tt := range []struct {
		name   string
		topics []string
		before int // subscriptions that are woken first
		want   []string
		reason string
	}{
		{"one topic, publisher", []string{"a"}, 0, []string{"a"}, "the publisher itself is still waking the first few"},
		{"one topic, waker", []string{"a"}, 16, []string{"a"}, "the others are left to another goroutine"},
		{"several topics, publisher", both, 0, both, "else what is newer on b would come before what is older on a"},
		{"several topics, waker", both, 16, both, "the same, while Publish has returned already"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var hub broadcast.Hub
			buf := make([]*broadcast.Message, 8)
			sleeper := func(topics []string, notify func()) broadcast.Subscription {
				sub, err := hub.Subscribe(ctx, broadcast.SubscribeOptions{Topics: topics, Notify: notify})
				require.NoError(t, err)
				n, err := sub.Poll(buf)
				require.NoError(t, err)
				require.Zero(t, n)
				return sub
			}
			for range tt.before {
				sleeper([]string{"a"}, nil)
			}
			reached, release, woken := make(chan struct{}), make(chan struct{}), make(chan struct{})
			sleeper([]string{"a"}, func() {
				close(reached)
				<-release
			})
			sub := sleeper(tt.topics, nil)
			sleeper([]string{"a"}, func() { close(woken) })

			go func() {
				_, err := hub.Publish(ctx, broadcast.Message{Topic: "a"})
				assert.NoError(t, err)
			}()
			await(t, ctx, reached, "the one in front to be woken")
			_, err := hub.Publish(ctx, broadcast.Message{Topic: "b"})
			require.NoError(t, err)

			n, err := sub.Poll(buf)
			require.NoError(t, err)
			got := []string{}
			for _, m := range buf[:n] {
				got = append(got, m.Topic)
			}
			assert.Equal(t, tt.want, got, tt.reason)
			assert.EqualValues(t, len(tt.want), sub.Position().Seq(), "the position is that of the last message")

			close(release)
			await(t, ctx, woken, "the last one to be woken")
			n, err = sub.Poll(buf)
			assert.NoError(t, err)
			assert.Empty(t, buf[:n], "nothing comes twice")
			assert.EqualValues(t, 2, sub.Position().Seq())
		})
	}
}

func await(t *testing.T, ctx context.Context, c <-chan struct{}, what string) {
	select {
	case <-c:
	case <-ctx.Done():
		require.Fail(t, "waited in vain", "for %s", what)
	}
}

// A Notify that panics is logged. It ends neither the process nor the subscription, and
// others are woken all the same.
func TestNotifyThatPanics(t *testing.T) {
	var log records
	hub := broadcast.Hub{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	woken := false
	buf := make([]*broadcast.Message, 4)
	subscribe := func(notify func()) broadcast.Subscription {
		sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}, Notify: notify})
		require.NoError(t, err)
		_, err = sub.Poll(buf)
		require.NoError(t, err)
		return sub
	}
	sub := subscribe(func() {
		hub.Stats() // without a lock
		panic("in a Notify")
	})
	subscribe(func() { woken = true })
	_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a"})
	require.NoError(t, err)
	require.True(t, woken)
	lines := log.with("panic in a subscriber's Notify")
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], "in a Notify")
	require.Contains(t, lines[0], "waker_test.go", "the stack")
	n, err := sub.Poll(buf)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

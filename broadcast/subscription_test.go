package broadcast_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// A negative Last is an error that names the field, and leaves no subscription.
func TestLastMustNotBeNegative(t *testing.T) {
	var hub broadcast.Hub
	for _, after := range []broadcast.ID{{}, broadcast.MakeID(7, 7)} {
		_, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}, After: after, Last: -1})
		require.EqualError(t, err, "broadcast: SubscribeOptions.Last is -1: it must not be negative")
	}
	require.Zero(t, hub.Stats().Subscriptions)
}

// A subscription that has returned all up to its end returns ErrClosed, even if its ring is
// overrun later.
func TestLossAfterTheEndIsNotReported(t *testing.T) {
	hub := broadcast.Hub{Keep: 4}
	sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}})
	require.NoError(t, err)
	defer sub.Close()
	buf := make([]*broadcast.Message, 8)
	_, err = sub.Poll(buf)
	require.NoError(t, err)
	sub.(broadcast.Finisher).Finish()
	for range 10 {
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a"})
		require.NoError(t, err)
	}
	_, err = sub.Poll(buf)
	require.ErrorIs(t, err, broadcast.ErrClosed, "what was lost came after the end")
}

// Subscribe returns no subscription with an error.
func TestNoSubscriptionWithAnError(t *testing.T) {
	var hub broadcast.Hub
	require.NoError(t, hub.Close())
	sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}})
	require.ErrorIs(t, err, broadcast.ErrClosed)
	require.True(t, sub == nil, "a nil interface")
}

package broadcast_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// What a finished subscription has lost of its Last messages is told if few are left, and what
// follows its end is not.
func TestFinishedSubscriptionAmongLastMessages(t *testing.T) {
	for _, test := range []struct {
		name   string
		polled int    // Last messages before the end
		topic  string // of what evicts them
		bytes  int
		gap    bool
	}{
		{"all returned, its ring goes on", 2, "x", 1, false},
		{"all returned, nothing is left", 2, "y", 2500, false},
		{"one was evicted, as many newer ones are kept", 1, "x", 1, false},
		{"one was evicted, nothing is left", 1, "y", 2500, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub := &broadcast.Hub{Keep: 2, KeepBytes: 3500}
			publish := func(topic string, n, bytes int) {
				for range n {
					_, err := hub.Publish(t.Context(), broadcast.Message{Topic: topic, Data: make([]byte, bytes)})
					require.NoError(t, err)
				}
			}
			publish("x", 2, 1)
			sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"x"}, Last: 2})
			require.NoError(t, err)
			defer sub.Close()
			buf := make([]*broadcast.Message, test.polled)
			n, err := sub.Poll(buf)
			require.NoError(t, err)
			require.Equal(t, test.polled, n)
			sub.(broadcast.Finisher).Finish()
			end := sub.Position()
			publish(test.topic, 4, test.bytes)
			n, err = sub.Poll(buf)
			require.Zero(t, n)
			if test.gap {
				var gap *broadcast.GapError
				require.ErrorAs(t, err, &gap)
				require.Equal(t, &broadcast.GapError{ID: end, Topics: []string{"x"}}, gap)
				_, err = sub.Poll(buf)
			}
			require.ErrorIs(t, err, broadcast.ErrClosed)
			require.Equal(t, end, sub.Position())
		})
	}
}

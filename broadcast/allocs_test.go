package broadcast_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// TestAllocations keeps what the fast paths allocate as it is.
func TestAllocations(t *testing.T) {
	ctx := context.Background()
	data := []byte("hello")
	publish := func(hub *broadcast.Hub) {
		if _, err := hub.Publish(ctx, broadcast.Message{Topic: "a", Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("publish", func(t *testing.T) {
		var hub broadcast.Hub
		for range 1000 { // until the ring has its size
			publish(&hub)
		}
		require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { publish(&hub) }), 1.0, "the message itself")
	})
	for name, topics := range map[string][]string{"one topic": {"a"}, "several topics": {"a", "b", "c"}} {
		t.Run("deliver to sleeping subscribers on "+name, func(t *testing.T) {
			var hub broadcast.Hub
			buf := make([]*broadcast.Message, 16)
			subs := make([]broadcast.Subscription, 10)
			for i := range subs {
				var err error
				subs[i], err = hub.Subscribe(ctx, broadcast.SubscribeOptions{Topics: topics, Notify: func() {}})
				require.NoError(t, err)
				defer subs[i].Close()
			}
			deliver := func() {
				publish(&hub)
				for _, sub := range subs {
					for n := 1; n > 0; {
						n, _ = sub.Poll(buf)
					}
				}
			}
			for range 1000 {
				deliver()
			}
			require.LessOrEqual(t, testing.AllocsPerRun(1000, deliver), 1.0, "the message, and nothing for each of ten")
		})
	}
}

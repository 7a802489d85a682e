package broadcasttest

import (
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func testClose(t *testing.T, c Config) {
	b := c.Open(t)
	arrive(t, b, "a", publishMany(t, b, "a", 5)[4])
	unpolled := listen(t, b, "a")
	arrive(t, b, "a", publish(t, b, "a", "unpolled"))
	for name, s := range map[string]*stream{
		"fresh":    subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}}),
		"drained":  listen(t, b, "a", "b"),
		"unpolled": unpolled,
		"lost":     resume(t, b, broadcast.MakeID(1, 0), "a"),
		"last":     subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}, Last: 5}),
	} {
		s.close()
		s.close()
		n, err := s.sub.Poll(make([]*broadcast.Message, 8))
		require.ErrorIs(t, err, broadcast.ErrClosed, "Poll after Close of the %s subscription", name)
		require.Zero(t, n, "messages after Close of the %s subscription", name)
		s.ended()
		require.False(t, s.sub.Position().IsZero(), "Position after Close")
		s.close()
	}
	for range 50 {
		s := listen(t, b, "a", "b")
		polled := make(chan error, 1)
		go func() {
			buf := make([]*broadcast.Message, 2)
			for {
				if _, err := s.sub.Poll(buf); err != nil {
					polled <- err
					return
				}
				runtime.Gosched()
			}
		}()
		publish(t, b, "a", "x")
		var closers sync.WaitGroup
		closers.Go(s.close)
		closers.Go(s.close)
		within(t, "Close, twice at once", closers.Wait)
		require.ErrorIs(t, <-polled, broadcast.ErrClosed, "a Poll at the same time as Close")
	}
	// Other subscriptions get what is published later.
	s := listen(t, b, "a")
	s.exactly(publish(t, b, "a", "then"), []string{"then"})
}

func testEndOfBroadcaster(t *testing.T, c Config) {
	b := c.Open(t)
	closer, ok := b.(interface{ Close() error })
	if !ok {
		t.Skip("the Broadcaster has no Close")
	}
	unpolled, drained := listen(t, b, "a", "b"), listen(t, b, "b")
	ids := publishMany(t, b, "a", 3)
	arrive(t, b, "a", ids[2])
	drained.empty()
	drained.forgetNotify()
	for range 2 {
		require.NoError(t, closer.Close())
	}
	waitFor(t, drained.notified, "a call of Notify")
	drained.ended()
	require.Equal(t, many("a", 0, 3), texts(unpolled.until(ids[2])), "what was kept")
	unpolled.ended()
	require.Equal(t, ids[2], unpolled.sub.Position())
	_, err := b.Publish(background(t), broadcast.Message{Topic: "a"})
	assert.ErrorIs(t, err, broadcast.ErrNotPublished, "Publish after Close")
	assert.ErrorIs(t, err, broadcast.ErrClosed, "Publish after Close")
	_, err = b.Subscribe(background(t), broadcast.SubscribeOptions{Topics: []string{"a"}})
	assert.ErrorIs(t, err, broadcast.ErrClosed, "Subscribe after Close")
	unpolled.close()
	unpolled.ended()
}

func testEndOfSubscription(t *testing.T, c Config) {
	b := c.Open(t)
	unpolled, drained, other := listen(t, b, "a", "b"), listen(t, b, "b"), listen(t, b, "a", "b")
	finish := func(s *stream) {
		finisher, ok := s.sub.(broadcast.Finisher)
		if !ok {
			t.Skip("the Subscription has no Finish")
		}
		finisher.Finish()
	}
	ids := publishMany(t, b, "a", 3)
	other.until(ids[2])
	drained.empty()
	drained.forgetNotify()
	finish(unpolled)
	finish(drained)
	waitFor(t, drained.notified, "a call of Notify")
	publish(t, b, "a", "then")
	last := publish(t, b, "b", "then")
	other.exactly(last, []string{"then", "then"}, "another subscription continues")
	drained.ended()
	require.Equal(t, many("a", 0, 3), texts(unpolled.until(ids[2])), "what was in the log")
	unpolled.ended()
	resume(t, b, unpolled.sub.Position(), "a", "b").exactly(last, []string{"then", "then"})
}

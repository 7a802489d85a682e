package broadcast_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// A client that comes back to a forgotten topic gets what it has missed from the journal.
func TestForgottenTopicsAreReadFromTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		seen := s.publish("x", "0")
		missed := s.publish("x", "1")
		time.Sleep(4 * time.Minute)
		s.publish("y", "2")
		r := s.resume(seen, "x")
		r.gets("1")
		r.sub.Close()
		for range 3 {
			time.Sleep(6 * time.Minute)
			s.publish("y", "again") // forgets x
		}
		synctest.Wait()
		require.Equal(t, 1, s.Stats().Topics)
		s.resume(missed, "x").gets()
		s.resume(seen, "x").gets("1") // which the journal has not forgotten
		s.resume(seen, "never heard of").gets()
		s.publish("x", "then")
		s.resume(missed, "x").gets("then")
		s.resume(seen, "x").gets("1", "then")
	})
}

// A client that comes back to a forgotten topic gets a gap, even if another topic's
// tombstone has replaced that of its own.
func TestMoreForgottenTopicsThanTombstones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const topics = 20_000
		hub := &broadcast.Hub{KeepBytes: 1 << 30}
		before := make([]broadcast.ID, topics)
		for i := range before {
			var err error
			before[i], err = hub.Position(t.Context())
			require.NoError(t, err)
			_, err = hub.Publish(t.Context(), broadcast.Message{Topic: fmt.Sprint(i)})
			require.NoError(t, err)
		}
		time.Sleep(time.Hour)
		for range topics { // each publish forgets two
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "y"})
			require.NoError(t, err)
		}
		require.Equal(t, 1, hub.Stats().Topics)
		for i, after := range before {
			sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{fmt.Sprint(i)}, After: after})
			require.NoError(t, err)
			_, err = sub.Poll(make([]*broadcast.Message, 1))
			assert.ErrorIs(t, err, broadcast.ErrGap)
			sub.Close()
		}
	})
}

// A loss of the tail counts for topics that have been forgotten: it may have been of theirs.
func TestLossCountsForForgottenTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		a.publish("x", "1")
		seen := a.publish("y", "2")
		time.Sleep(time.Hour)
		a.publish("z", "3", "4") // forgets x and y
		synctest.Wait()
		require.Equal(t, 1, b.Stats().Topics)
		b.node.Fail(errAway)
		a.publish("x", "5")
		engine.Trim(100)
		b.node.Fail(nil)
		time.Sleep(time.Minute)
		b.resume(seen, "x").gets("gap")
	})
}

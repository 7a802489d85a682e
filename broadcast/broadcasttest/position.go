package broadcasttest

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func testPositionDrained(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a")
	other := listen(t, b, "b", "c")
	for i := range 20 {
		topic := []string{"a", "b", "c", "b"}[i%4]
		id := publish(t, b, topic, fmt.Sprint(i))
		if topic == "a" {
			s.exactly(id, []string{fmt.Sprint(i)})
			other.empty()
		} else {
			other.exactly(id, []string{fmt.Sprint(i)})
			s.empty()
		}
		require.Equal(t, id, s.sub.Position(), "a drained Position and the newest message of all topics")
		require.Equal(t, id, other.sub.Position(), "a drained Position and the newest message of all topics")
	}
	here := s.sub.Position()
	id := publish(t, b, "a", "missed")
	resume(t, b, here, "a").exactly(id, []string{"missed"})
}

func testPositionInBatch(t *testing.T, c Config) {
	b := c.Open(t)
	topics := []string{"a", "b"}
	s := listen(t, b, topics...)
	var ids []broadcast.ID
	var all []string
	publishOne := func(topic string) {
		all = append(all, fmt.Sprint(len(all)))
		ids = append(ids, publish(t, b, topic, all[len(all)-1]))
	}
	for i := range 8 {
		publishOne(topics[i%2])
	}
	arrive(t, b, "b", ids[7])
	unpolled := s.sub.Position()
	require.Less(t, unpolled.Seq(), ids[0].Seq(), "Position before the Poll")
	got := 0
	for got < len(all) {
		ms, err := s.poll(3)
		require.NoError(t, err)
		require.NotEmpty(t, ms)
		got += len(ms)
		require.Equal(t, all[:got][got-len(ms):], texts(ms))
		if got == 3 {
			// More is published while a handler would write the batch.
			publishOne("a")
			arrive(t, b, "a", ids[len(ids)-1])
			arrive(t, b, "elsewhere", publish(t, b, "elsewhere", "x"))
		}
		here := s.sub.Position()
		require.GreaterOrEqual(t, here.Seq(), ids[got-1].Seq(), "Position and the last message returned")
		if got < len(all) {
			require.Less(t, here.Seq(), ids[got].Seq(), "Position and the next message")
			resume(t, b, here, topics...).exactly(ids[len(ids)-1], all[got:])
		}
	}
}

// Each Poll of a stream checks that no message lies before its position.
func testPositionUnwoken(t *testing.T, c Config) {
	b := c.Open(t)
	testPollDuringNotify(t, b)
	testPollWithoutNotify(t, b, c.Keep)
}

// testPollDuringNotify polls while another subscription is being notified: the message may
// then be in the log although this subscription has not been notified yet.
func testPollDuringNotify(t *testing.T, b broadcast.Broadcaster) {
	for round := range 10 {
		blocker := newNotifyBlocker(t)
		watcher := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}, Notify: blocker.notify})
		watcher.empty()
		polled := []*stream{listen(t, b, "a"), listen(t, b, "a", "b"), listen(t, b, "silent")}
		published := blocker.publish(b, "a", fmt.Sprint(round))
		waitFor(t, blocker.entered, "a call of Notify")
		for range 2 {
			for _, s := range polled {
				_, err := s.poll(4)
				require.NoError(t, err)
			}
		}
		blocker.release()
		id := <-published
		require.False(t, t.Failed(), "while Notify runs")
		for _, s := range polled[:2] {
			s.until(id)
			require.Equal(t, id, s.last)
			s.close()
		}
		watcher.close()
	}
}

// testPollWithoutNotify polls all the time while messages are published.
func testPollWithoutNotify(t *testing.T, b broadcast.Broadcaster, keep int) {
	streams := []*stream{listen(t, b, "a"), listen(t, b, "b"), listen(t, b, "a", "b"), listen(t, b, "silent")}
	const n = 300
	flow := newFlow(t, keep/2)
	publishers := []<-chan []broadcast.ID{
		flow.inBackground(t, b, []string{"a", "b"}, many("p", 0, n)),
		flow.inBackground(t, b, []string{"b", "b", "a"}, many("q", 0, n)),
	}
	counts := make([]int, len(streams))
	deadline := time.Now().Add(patience)
	for counts[0]+counts[1] < 2*n || counts[2] < 2*n {
		read := counts[2]
		for i, s := range streams {
			ms, err := s.poll(3)
			require.NoError(t, err)
			if counts[i] += len(ms); len(ms) > 0 {
				deadline = time.Now().Add(patience)
			}
		}
		require.True(t, time.Now().Before(deadline), "too slow: got %v messages", counts)
		// All streams are polled in turn, so the others have read about as much.
		flow.release(counts[2] - read)
		runtime.Gosched()
	}
	for _, done := range publishers {
		require.Len(t, <-done, n)
	}
	for _, s := range streams {
		s.empty()
	}
}

func testPositionAndAfter(t *testing.T, c Config) {
	b := c.Open(t)
	fresh := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"silent"}})
	require.False(t, fresh.sub.Position().IsZero(), "Position is the zero ID")
	for range 50 {
		// The message may not have arrived where the subscription is.
		id := publish(t, b, "a", "x")
		for _, topic := range []string{"a", "silent"} {
			s := resume(t, b, id, topic)
			require.Equal(t, id, s.sub.Position(), "before the first Poll")
			for range 3 {
				s.empty()
				require.Equal(t, id, s.sub.Position(), "nothing came since")
			}
			s.close()
		}
	}
}

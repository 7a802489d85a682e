package sse_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// With poll=1 the response ends with the first messages, or after 25 s with the position.
// Without a position it ends at once.
func TestLongPollEndsWithTheFirstMessages(t *testing.T) {
	for _, detach := range []bool{false, true} {
		var hub broadcast.Hub
		grant := &fanfare.Grant{Topics: []string{"a"}, Last: 2}
		h := &sse.Handler{Broadcaster: &hub, Logger: silent, Detach: detach, Options: sse.Options{MaxAge: time.Second}}
		h.Topics = grant.Topics
		serve(t, h, func(t *testing.T, n *network) {
			begin := position(t, &hub)
			began := time.Now()
			n.get("/?poll=1").expectAll("retry: 3000\nid: " + begin + "\n\n")
			require.Zero(t, time.Since(began), "without a position the answer comes at once")

			// No message: after 25 s the response ends, with the position if that has moved.
			quiet := "retry: 3000\nid: " + begin + "\n\n"
			n.get("/?poll=1", "Last-Event-ID", begin).expectAll(quiet)
			require.Equal(t, 25*time.Second, time.Since(began), "MaxAge and heartbeats do not apply")
			s := n.get("/?poll=1", "Last-Event-ID", begin)
			elsewhere := publish(t, &hub, "b", "not for it")
			s.expectAll(quiet + "id: " + elsewhere + "\n\n")

			// The first message ends the response.
			s = n.get("/?poll=1", "Last-Event-ID", elsewhere)
			s.expect("retry: 3000\nid: " + elsewhere + "\n\n")
			time.Sleep(time.Second)
			require.True(t, s.open())
			one := publish(t, &hub, "a", "one")
			s.expectAll(tick(one, "one"))

			// Pending messages end it at once.
			two, three := publish(t, &hub, "a", "two"), publish(t, &hub, "a", "three")
			began = time.Now()
			n.get("/?poll=1", "Last-Event-ID", one).expectAll("retry: 3000\nid: " + one + "\n\n" + tick(two, "two") + tick(three, "three"))
			n.get("/?poll=1", "Last-Event-ID", "nonsense").expectAll("retry: 3000\nevent: gap\nid: " + elsewhere + "\ndata: {\"gap\":\"" + elsewhere + "\"}\n\n" +
				tick(one, "one") + tick(two, "two") + tick(three, "three"))
			require.Zero(t, time.Since(began))
			require.EqualValues(t, 1, n.dials.Load(), "over one connection")
		})
	}
}

// Messages that Filter drops end no poll, but move the position.
func TestFilteredMessagesMoveThePositionOfAPoll(t *testing.T) {
	var hub broadcast.Hub
	h := &sse.Handler{Broadcaster: &hub, Logger: silent, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"a"}, Filter: func(*broadcast.Message) bool { return false }}, nil
	}}
	serve(t, h, func(t *testing.T, n *network) {
		begin, began := position(t, &hub), time.Now()
		s := n.get("/?poll=1", "Last-Event-ID", begin)
		time.Sleep(time.Second)
		last := publish(t, &hub, "a", "for others")
		s.expectAll("retry: 3000\nid: " + begin + "\n\nid: " + last + "\n\n")
		require.Equal(t, 25*time.Second, time.Since(began))

		// While many of them are dropped, heartbeats send the position.
		s = n.get("/", "Last-Event-ID", last)
		s.expect("retry: 3000\nid: " + last + "\n\n")
		for range 3200 {
			publish(t, &hub, "a", "for others")
			time.Sleep(10 * time.Millisecond)
		}
		received := s.received()
		require.Equal(t, 2, strings.Count(received, "id: "), received)
		require.NotContains(t, received, ":\n\n")
	})
}

// Polls that each resume after the one before get every message once.
func TestPollsInARowLoseNothing(t *testing.T) {
	var hub broadcast.Hub
	serve(t, &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Logger: silent}, func(t *testing.T, n *network) {
		const messages = 500
		after := position(t, &hub)
		var publishing sync.WaitGroup
		defer publishing.Wait()
		publishing.Go(func() {
			for i := range messages {
				publish(t, &hub, "a", "x")
				time.Sleep(time.Duration(i%7) * 20 * time.Millisecond)
			}
		})
		polls := 0
		for got := 0; got < messages; polls++ {
			rest, err := n.get("/?poll=1", "Last-Event-ID", after).rest()
			require.NoError(t, err)
			all, last := events(t, rest)
			for _, e := range all {
				require.Equal(t, "tick", e.Type)
				require.Equal(t, after, before(t, e.ID))
				after = e.ID
				got++
			}
			require.Equal(t, after, last)
		}
		require.Greater(t, polls, 10)
		require.Less(t, polls, messages+10)
	})
}

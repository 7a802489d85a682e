package broadcasttest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// setTopics gives a subscription other topics. It skips the case if the subscription is not a
// broadcast.TopicSetter.
func (s *stream) setTopics(topics ...string) {
	s.t.Helper()
	sub, ok := s.sub.(broadcast.TopicSetter)
	if !ok {
		s.t.Skip("the Subscription has no SetTopics")
	}
	before := s.sub.Position()
	require.NoError(s.t, sub.SetTopics(topics), "SetTopics")
	require.Equal(s.t, before, s.sub.Position(), "Position after SetTopics")
}

func testSetTopics(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a", "b")
	publish(t, b, "a", "a 1")
	publish(t, b, "c", "before the position")
	s.exactly(publish(t, b, "b", "b 1"), []string{"a 1", "b 1"})
	publish(t, b, "c", "after the position")
	publish(t, b, "a", "on a removed topic")
	id := publish(t, b, "b", "b 2")
	arrive(t, b, "b", id)

	s.setTopics("c", "b", "c")
	s.exactly(id, []string{"after the position", "b 2"})
	publish(t, b, "a", "on a removed topic")
	s.exactly(publish(t, b, "c", "live"), []string{"live"})
	s.empty()

	// Between two messages: a topic that stays continues where it was.
	for _, text := range []string{"b 3", "b 4", "b 5"} {
		id = publish(t, b, "b", text)
	}
	arrive(t, b, "b", id)
	require.Equal(t, []string{"b 3"}, texts(s.count(1)))
	s.setTopics("b", "a")
	s.exactly(id, []string{"b 4", "b 5"})

	// Back to an earlier topic: what was published meanwhile is not after the position.
	s.setTopics("c")
	s.exactly(publish(t, b, "c", "again"), []string{"again"})

	setter := s.sub.(broadcast.TopicSetter)
	require.Error(t, setter.SetTopics(nil), "no topic")
	require.Error(t, setter.SetTopics([]string{"a\nb"}), "an invalid topic")
	s.exactly(publish(t, b, "c", "still"), []string{"still"}, "after refused topics")
	s.close()
	require.ErrorIs(t, setter.SetTopics([]string{"a"}), broadcast.ErrClosed)
}

func testSetTopicsNotify(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a")
	id := publish(t, b, "b", "on a topic that is not set yet")
	arrive(t, b, "b", id)
	for range 50 {
		s.setTopics("b", "a")
		s.until(publish(t, b, "b", "on the new topic"))
		s.empty()
		s.setTopics("a")
		s.until(publish(t, b, "a", "on the topic that stayed"))
		s.empty()
	}
}

func testSetTopicsGap(t *testing.T, c Config) {
	b := c.Open(t)
	keeper := listen(t, b, "b") // so that the topic is not forgotten
	s := listen(t, b, "a")
	s.exactly(publish(t, b, "a", "a 0"), []string{"a 0"})
	ids := publishMany(t, b, "b", 2*c.Keep)
	arrive(t, b, "b", ids[len(ids)-1])
	s.setTopics("a", "b")
	ms, gap := s.gap()
	require.Equal(t, []string{"b"}, gap.Topics, "the topic that lost messages after the position")
	require.Equal(t, ms[0].ID.Seq()-1, gap.ID.Seq())
	s.until(ids[len(ids)-1])
	s.empty()
	s.setTopics("b")
	s.exactly(publish(t, b, "b", "without another gap"), []string{"without another gap"})
	keeper.close()
}

func testSkip(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a")
	sub, ok := s.sub.(broadcast.Skipper)
	if !ok {
		t.Skip("the Subscription is no broadcast.Skipper")
	}
	for i := range 3 {
		ids := publishMany(t, b, "a", 1+i*c.Keep)
		arrive(t, b, "a", ids[len(ids)-1])
		at := sub.Skip()
		require.Equal(t, s.sub.Position(), at, "what Skip returns, and Position")
		require.Equal(t, ids[len(ids)-1], at, "where it goes on")
		text := fmt.Sprint("after the Skip ", i)
		s.exactly(publish(t, b, "a", text), []string{text})
	}
}

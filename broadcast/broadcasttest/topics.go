package broadcasttest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// setTopics gives a subscription other topics. The case is skipped where that cannot
// be done.
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
	publish(t, b, "c", "behind the position")
	publish(t, b, "a", "of what is left out")
	id := publish(t, b, "b", "b 2")
	arrive(t, b, "b", id)

	s.setTopics("c", "b", "c")
	s.exactly(id, []string{"behind the position", "b 2"})
	publish(t, b, "a", "of what is left out")
	s.exactly(publish(t, b, "c", "live"), []string{"live"})
	s.empty()

	// In the middle of what is there: what stays goes on where it was.
	for _, text := range []string{"b 3", "b 4", "b 5"} {
		id = publish(t, b, "b", text)
	}
	arrive(t, b, "b", id)
	require.Equal(t, []string{"b 3"}, texts(s.count(1)))
	s.setTopics("b", "a")
	s.exactly(id, []string{"b 4", "b 5"})

	// Back again: what was published meanwhile is not behind the position.
	s.setTopics("c")
	s.exactly(publish(t, b, "c", "again"), []string{"again"})

	bad := s.sub.(broadcast.TopicSetter)
	require.Error(t, bad.SetTopics(nil), "no topic")
	require.Error(t, bad.SetTopics([]string{"a\nb"}), "an invalid topic")
	s.exactly(publish(t, b, "c", "still"), []string{"still"}, "after topics that were refused")
	s.close()
	require.ErrorIs(t, bad.SetTopics([]string{"a"}), broadcast.ErrClosed)
}

func testSetTopicsNotify(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a")
	id := publish(t, b, "b", "not for it yet")
	arrive(t, b, "b", id)
	for range 50 {
		s.setTopics("b", "a")
		s.until(publish(t, b, "b", "woken by what is new"))
		s.empty()
		s.setTopics("a")
		s.until(publish(t, b, "a", "woken by what stayed"))
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
	require.Equal(t, []string{"b"}, gap.Topics, "the topic that lost something behind the position")
	require.Equal(t, ms[0].ID.Seq()-1, gap.ID.Seq())
	s.until(ids[len(ids)-1])
	s.empty()
	s.setTopics("b")
	s.exactly(publish(t, b, "b", "no gap twice"), []string{"no gap twice"})
	keeper.close()
}

package broadcasttest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func testSlowSubscriber(t *testing.T, c Config) {
	b := c.Open(t)
	// One that never polls, and one that polls only once.
	subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a", "b"}})
	listen(t, b, "a")
	s := listen(t, b, "a")
	ids := publishMany(t, b, "a", 3*c.Keep) // each Publish returns within the suite's patience
	all := s.until(ids[len(ids)-1])
	require.NotEmpty(t, all)
	s.exactly(publish(t, b, "a", "then"), []string{"then"})
}

func testOverrun(t *testing.T, c Config) {
	b := c.Open(t)
	for _, beyond := range []int{1, 2, c.Keep, c.Keep + 1, 3 * c.Keep} {
		s := listen(t, b, "a")
		n := c.Keep + beyond
		ids := publishMany(t, b, "a", n)
		arrive(t, b, "a", ids[n-1])
		ms, err := s.poll(c.Keep)
		require.ErrorIs(t, err, broadcast.ErrGap, "with %d messages more than are kept", beyond)
		require.NotEmpty(t, ms, "what comes with the gap")
		var gap *broadcast.GapError
		require.ErrorAs(t, err, &gap)
		require.True(t, gap.Topics == nil || len(gap.Topics) == 1 && gap.Topics[0] == "a", "GapError.Topics: %q", gap.Topics)
		got := texts(append(ms, s.until(ids[n-1])...))
		require.Equal(t, many("a", beyond, n), got, "all that is kept")
		s.empty()
		require.Equal(t, 1, s.gaps, "the number of gaps")
		// GapError.ID is a position to resume from.
		resume(t, b, gap.ID, "a").exactly(ids[n-1], got)
		s.close()
	}
}

func testOverrunOfOneTopic(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a", "b", "c")
	publish(t, b, "b", "b before")
	n := c.Keep + 2
	publishMany(t, b, "a", n)
	last := publish(t, b, "b", "b after")
	arrive(t, b, "b", last)
	ms, gap := s.gap()
	require.True(t, gap.Topics == nil || len(gap.Topics) == 1 && gap.Topics[0] == "a", "GapError.Topics: %q", gap.Topics)
	want := append([]string{"b before"}, many("a", 2, n)...)
	require.Equal(t, append(want, "b after"), texts(append(ms, s.until(last)...)))
	s.exactly(publish(t, b, "c", "then"), []string{"then"})
	require.Equal(t, 1, s.gaps, "the number of gaps")
}

func testOverrunAgain(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a")
	var last broadcast.ID
	const rounds = 12
	for round := range rounds {
		n := c.Keep + 10
		ids := publishMany(t, b, "a", n)
		last = ids[n-1]
		arrive(t, b, "a", last)
		// What followed the previous loss is evicted by now. The subscription may still
		// return a few messages that it had read ahead.
		for s.gaps == round {
			ms, err := s.poll(2)
			require.NotEmpty(t, ms, "with error %v", err)
			if err != nil {
				require.Equal(t, many("a", 10, 10+len(ms)), texts(ms), "what is kept")
			}
		}
		ms, err := s.poll(2)
		require.NoError(t, err, "the same loss must not be reported again")
		require.NotEmpty(t, ms)
	}
	s.until(last)
	require.Equal(t, rounds, s.gaps, "the number of gaps")
	s.exactly(publish(t, b, "a", "then"), []string{"then"})
}

func testOverrunInMotion(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a")
	n := max(500, 10*c.Keep)
	flow := newFlow(t, n) // publishers never wait
	done := flow.inBackground(t, b, []string{"a"}, many("a", 0, n))
	newest := -1
	for newest < n-1 {
		ms, err := s.poll(1 + newest&3)
		if len(ms) == 0 && err == nil {
			ms, err = s.next()
		}
		for i, m := range ms {
			_, number, _ := strings.Cut(string(m.Data), " ")
			this, parseErr := strconv.Atoi(number)
			require.NoError(t, parseErr)
			if i == 0 && err != nil {
				require.ErrorIs(t, err, broadcast.ErrGap)
				require.Greater(t, this, newest+1, "a gap without a loss")
			} else {
				require.Equal(t, newest+1, this, "a loss without a gap")
			}
			newest = this
		}
		require.NotEmpty(t, ms, "with error %v, although something is always kept", err)
	}
	require.Len(t, <-done, n)
	s.empty()
}

func testGapOnce(t *testing.T, c Config) {
	b := c.Open(t)
	s := listen(t, b, "a", "b")
	before := s.sub.Position()
	n := c.Keep + 5
	ids := publishMany(t, b, "a", n)
	arrive(t, b, "a", ids[n-1])
	s.gap()
	afterwards := s.sub.Position()
	s.until(ids[n-1])
	s.empty()
	for i := range 10 {
		text := fmt.Sprint("then ", i)
		s.exactly(publish(t, b, []string{"a", "b"}[i%2], text), []string{text})
	}
	require.Equal(t, 1, s.gaps, "the number of gaps")
	last := publish(t, b, "b", "last")
	for range 2 {
		again := resume(t, b, before, "a", "b")
		got := again.until(last)
		if again.gaps == 0 { // then it must get everything
			require.Len(t, got, n+11)
		}
		require.LessOrEqual(t, again.gaps, 1, "the number of gaps")
	}
	require.GreaterOrEqual(t, afterwards.Seq(), before.Seq())
	s.exactly(last, []string{"last"})
}

// testGapThen checks a subscription after an ID that the log does not have. It must get a gap,
// then the wanted messages (the newest has the ID last), then a message that testGapThen
// publishes. testGapThen returns the ID of that message.
func testGapThen(t *testing.T, b broadcast.Broadcaster, after broadcast.ID, topics []string, last broadcast.ID, want []string) broadcast.ID {
	t.Helper()
	return testGapOfThen(t, b, resume(t, b, after, topics...), topics, last, want)
}

// testGapOfThen is testGapThen for a subscription that is open already.
func testGapOfThen(t *testing.T, b broadcast.Broadcaster, s *stream, topics []string, last broadcast.ID, want []string) broadcast.ID {
	t.Helper()
	ms, gap := s.gap()
	if len(want) > 0 {
		require.NotEmpty(t, ms, "what comes with the gap")
		ms = append(ms, s.until(last)...)
	}
	require.Equal(t, want, texts(ms))
	s.empty()
	here := s.sub.Position()
	require.Equal(t, gap.ID.Epoch(), here.Epoch(), "the epochs of GapError.ID and Position")
	require.GreaterOrEqual(t, here.Seq(), gap.ID.Seq(), "GapError.ID and Position")
	id := publish(t, b, topics[0], "then")
	s.exactly(id, []string{"then"})
	require.Equal(t, 1, s.gaps, "the number of gaps")
	resume(t, b, here, topics...).exactly(id, []string{"then"})
	return id
}

func testOtherEpoch(t *testing.T, c Config) {
	b := c.Open(t)
	ids := publishMany(t, b, "a", 3)
	arrive(t, b, "a", ids[2])
	epoch, other := ids[2].Epoch(), ids[2].Epoch()^1<<40
	require.NotEqual(t, epoch, other)
	testGapThen(t, b, broadcast.MakeID(other, ids[1].Seq()), []string{"quiet"}, broadcast.ID{}, []string{})
	testGapThen(t, b, broadcast.MakeID(other, 0), []string{"silent", "quieter"}, broadcast.ID{}, []string{})
	id := testGapThen(t, b, broadcast.MakeID(other, ids[1].Seq()), []string{"a"}, ids[2], many("a", 0, 3))
	testGapThen(t, b, broadcast.MakeID(other, 1<<63), []string{"b", "a"}, id, append(many("a", 0, 3), "then"))
}

func testUnknownPosition(t *testing.T, c Config) {
	b := c.Open(t)
	ids := publishMany(t, b, "a", 3)
	arrive(t, b, "a", ids[2])
	testGapThen(t, b, broadcast.MakeID(1, 0), []string{"quiet"}, broadcast.ID{}, []string{})
	testGapThen(t, b, broadcast.MakeID(1, 0), []string{"b", "a"}, ids[2], many("a", 0, 3))
	testGapThen(t, b, broadcast.MakeID(1, 1<<63), []string{"a"}, ids[2], many("a", 0, 3))
}

func testFuture(t *testing.T, c Config) {
	b := c.Open(t)
	ids := publishMany(t, b, "a", 3)
	arrive(t, b, "a", ids[2])
	// All are opened first: a server may take some seconds to find out that an engine does not
	// have what it was asked for.
	all := []struct {
		ahead  uint64
		topics []string
		s      *stream
	}{
		{1000, []string{"quiet"}, nil},
		{1000, []string{"b", "a"}, nil},
		{1 << 62, []string{"silent"}, nil},
		{1 << 62, []string{"c", "a"}, nil},
	}
	for i := range all {
		after := broadcast.MakeID(ids[2].Epoch(), ids[2].Seq()+all[i].ahead)
		all[i].s = resume(t, b, after, all[i].topics...)
	}
	for _, each := range all {
		testGapOfThen(t, b, each.s, each.topics, broadcast.ID{}, []string{})
	}
}

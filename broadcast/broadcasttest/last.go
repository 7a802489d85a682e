package broadcasttest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func testLast(t *testing.T, c Config) {
	b := c.Open(t)
	nothing := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}, Last: 3})
	nothing.exactly(publish(t, b, "a", "a 0"), []string{"a 0"})
	published := []string{"a 0"}
	for i := 1; i < c.Keep+3; i++ {
		published = append(published, fmt.Sprint("a ", i))
		id := publish(t, b, "a", published[i])
		if i%2 == 0 {
			arrive(t, b, "a", id)
		}
		for _, last := range []int{1, 2, c.Keep, 1_000_000} {
			silent := fmt.Sprint("silent ", i, last)
			s := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a", silent}, Last: last})
			want := published[max(0, len(published)-min(last, c.Keep)):]
			got := texts(s.until(publish(t, b, silent, "marker")))
			if i%2 == 1 && len(got) > len(want) {
				// The newest message may not have arrived yet. It must then follow the Last
				// messages that have.
				want = published[max(0, len(published)+1-len(got)):]
			}
			require.Equal(t, append(want[:len(want):len(want)], "marker"), got, "Last: %d of %d", last, len(published))
			require.Zero(t, s.gaps, "the number of gaps")
			s.empty()
			s.close()
		}
	}
}

func testLastAndPosition(t *testing.T, c Config) {
	b := c.Open(t)
	publishMany(t, b, "a", 3)
	arrive(t, b, "b", publishMany(t, b, "b", 5)[4])
	s := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"b", "a"}, Last: 2})
	beginning := s.sub.Position()
	var got []string
	for range 4 {
		got = append(got, texts(s.count(1))...)
		require.Equal(t, beginning, s.sub.Position(), "Position among the last messages")
	}
	require.Equal(t, append(many("a", 1, 3), many("b", 3, 5)...), got)
	id := publish(t, b, "a", "then")
	s.exactly(id, []string{"then"})
	resume(t, b, beginning, "a", "b").exactly(id, []string{"then"})
}

func testLastAndAfter(t *testing.T, c Config) {
	b := c.Open(t)
	ids := publishMany(t, b, "a", 5)
	last := publish(t, b, "a", "last")
	for i, id := range ids {
		s := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}, After: id, Last: 4})
		s.exactly(last, append(many("a", i+1, 5), "last"))
	}
	drained := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}, After: last, Last: 4})
	drained.empty()
}

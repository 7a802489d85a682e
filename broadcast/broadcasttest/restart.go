package broadcasttest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func testRestart(t *testing.T, c Config) {
	if c.Restart == nil {
		t.Skip("no Config.Restart")
	}
	before := c.Open(t)
	s := listen(t, before, "a", "b")
	positions := []broadcast.ID{s.sub.Position()}
	var all []string
	for i, text := range many("before", 0, 6) {
		all = append(all, text)
		positions = append(positions, publish(t, before, []string{"a", "b"}[i%2], text))
	}
	s.until(positions[6])
	s.close()
	b := c.Restart(t, before)
	all = append(all, "after")
	after := publish(t, b, "b", "after")
	for i, position := range positions {
		s := resume(t, b, position, "a", "b")
		got := texts(s.until(after))
		if s.gaps == 0 {
			require.Equal(t, all[i:], got, "without a gap, after message %d", i)
			continue
		}
		require.Equal(t, 1, s.gaps, "the number of gaps")
		require.Equal(t, all[len(all)-len(got):], got, "with a gap, after message %d", i)
		s.close()
	}
	s = listen(t, b, "a")
	s.exactly(publish(t, b, "a", "then"), []string{"then"})
}

func testNoIDTwice(t *testing.T, c Config) {
	if c.Restart == nil {
		t.Skip("no Config.Restart")
	}
	given := make(map[broadcast.ID]bool)
	b := c.Open(t)
	for range 4 {
		for _, id := range publishMany(t, b, "a", 5) {
			require.False(t, given[id], "%v was given twice", id)
			given[id] = true
		}
		b = c.Restart(t, b)
	}
}

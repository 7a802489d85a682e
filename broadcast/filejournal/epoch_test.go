package filejournal_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// After a new epoch a client gets a gap, and goes on after what it has had of the messages that are
// still there, also after a second one.
func TestSurvivorsDoNotComeTwice(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	var ids []broadcast.ID
	for _, text := range []string{"one", "two", "three", "four"} {
		ids = append(ids, publish(t, j, text))
	}
	require.NoError(t, j.Close())
	for range 2 {
		name := filepath.Join(dir, "0000000000000001.log")
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(name, info.Size()-1))
		j = open(t, dir)
		publish(t, j, "new")
		require.NoError(t, j.Close())
	}
	// one, two, three and the second "new" are left.
	hub := run(t, &broadcast.Hub{Journal: open(t, dir)})
	for after, want := range map[broadcast.ID][]string{
		ids[0]:                    {"two", "three", "new"},
		ids[2]:                    {"new"},
		ids[3]:                    {"new"},
		broadcast.MakeID(77, 100): {"one", "two", "three", "new"},
	} {
		sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}, After: after})
		require.NoError(t, err)
		defer sub.Close()
		var got []string
		gaps := 0
		require.Eventually(t, func() bool {
			buf := make([]*broadcast.Message, 16)
			n, err := sub.Poll(buf)
			if errors.Is(err, broadcast.ErrGap) {
				gaps++
			}
			for _, m := range buf[:n] {
				got = append(got, string(m.Data))
			}
			return len(got) >= len(want)
		}, 10*time.Second, time.Millisecond)
		require.Equal(t, want, got, "after %v", after)
		require.Equal(t, 1, gaps)
	}
}

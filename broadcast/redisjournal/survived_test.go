package redisjournal_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

// epoch checks that a new epoch is yielded next, and returns which entry is said to have survived;
// the zero ID if none is.
func (f *tailing) epoch() (survived broadcast.ID) {
	f.t.Helper()
	_, err := f.pull()
	require.ErrorIs(f.t, err, broadcast.ErrGap)
	if e, ok := errors.AsType[*broadcast.EpochError](err); ok {
		return e.Survived
	}
	return broadcast.ID{}
}

// A tail says which entries have kept their sequences in a new epoch, also if others were added
// since, and if it is the tail that notices.
func TestEpochSaysWhatHasSurvived(t *testing.T) {
	longtest.Only(t)
	for way, prepare := range waysBack {
		t.Run(way, func(t *testing.T) {
			s := start(t, "--dbfilename", "dump.rdb")
			j := s.journal()
			f := follow(t, j, broadcast.ID{})
			kept := add(t, j, many("kept", 5)...)
			back := prepare(s, "fanfare")
			lost := add(t, j, many("lost", 5)...)
			f.yields(kept, many("kept", 5)...)
			f.yields(lost, many("lost", 5)...)
			back()
			if way == "crash with an older snapshot" {
				f.fails()
				f = follow(t, j, lost[4])
			}
			require.Equal(t, kept[4], f.epoch(), "noticed by the tail")
			add(t, j, many("new", 20)...)
			for _, after := range []broadcast.ID{kept[2], lost[3]} {
				require.Equal(t, kept[4], follow(t, s.journal(), after).epoch(), "after new entries")
			}
		})
	}
}

// A tail does not say that entries have survived in a stream that was made anew, after two new
// epochs, or where others may have been added in their place.
func TestEpochThatDoesNotSayWhatHasSurvived(t *testing.T) {
	t.Parallel()
	t.Run("deleted", func(t *testing.T) {
		s := start(t)
		j := s.journal()
		old := add(t, j, "one", "two")
		s.do("DEL", "fanfare")
		add(t, j, "three")
		require.Zero(t, follow(t, j, old[0]).epoch())
	})
	t.Run("two epochs ago", func(t *testing.T) {
		s := start(t, "--appendonly", "yes", "--appendfsync", "always")
		old := add(t, s.journal(), "one", "two")
		for range 2 {
			s.crash()
			s.run()
			add(t, s.journal(), "next")
		}
		require.Zero(t, follow(t, s.journal(), old[0]).epoch())
	})
	t.Run("others in their place", func(t *testing.T) {
		s := start(t)
		j := s.journal()
		f := follow(t, j, broadcast.ID{})
		kept := add(t, j, "one", "two")
		s.do("COPY", "fanfare", "backup")
		f.yields(kept, "one", "two")
		lost := add(t, j, "lost")
		f.yields(lost, "lost")
		s.do("EVAL", "redis.call('COPY', 'backup', 'fanfare', 'REPLACE')"+
			"redis.call('XADD', 'fanfare', '0-*', 'link', 'other', 'topic', 't', 'data', 'other') return 1", 0)
		require.Zero(t, f.epoch())
	})
	t.Run("begun by an earlier version", func(t *testing.T) {
		s := start(t, "--appendonly", "yes", "--appendfsync", "always")
		j := s.journal()
		old := add(t, j, "one", "two")
		s.crash()
		s.run()
		add(t, j, "three")
		for _, g := range s.admin.XInfoGroups(t.Context(), "fanfare").Val() {
			for _, c := range s.admin.XInfoConsumers(t.Context(), "fanfare", g.Name).Val() {
				s.do("XGROUP", "DELCONSUMER", "fanfare", g.Name, c.Name)
			}
		}
		require.Zero(t, follow(t, j, old[0]).epoch())
	})
}

// A subscriber that has had everything goes on with what is new after a restart of the engine, with
// a gap and nothing a second time.
func TestNothingTwiceAfterARestart(t *testing.T) {
	s := start(t, "--appendonly", "yes", "--appendfsync", "always")
	hub := run(t, s.journal())
	sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"t"}})
	require.NoError(t, err)
	defer sub.Close()
	var texts []string
	gaps := 0
	read := func(until string) {
		t.Helper()
		buf := make([]*broadcast.Message, 8)
		require.Eventually(t, func() bool {
			n, err := sub.Poll(buf)
			if errors.Is(err, broadcast.ErrGap) {
				gaps++
			}
			for _, m := range buf[:n] {
				texts = append(texts, string(m.Data))
			}
			return len(texts) > 0 && texts[len(texts)-1] == until
		}, patience, time.Millisecond)
	}
	add(t, s.journal(), "one", "two")
	read("two")
	s.crash()
	s.run()
	add(t, s.journal(), "three")
	read("three")
	require.Equal(t, []string{"one", "two", "three"}, texts)
	require.Equal(t, 1, gaps)
}

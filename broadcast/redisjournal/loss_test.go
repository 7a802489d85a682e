package redisjournal_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

func TestCrashWithoutPersistence(t *testing.T) {
	s := start(t)
	j := s.journal()
	old := add(t, j, "one", "two")
	f := follow(t, j, old[0])
	f.yields(old[1:], "two")
	s.crash()
	f.fails()
	s.run()

	given := add(t, j, "three", "four")
	require.NotEqual(t, old[0].Epoch(), given[0].Epoch())
	f = follow(t, j, old[1])
	require.Equal(t, broadcast.MakeID(given[0].Epoch(), 0), f.gap())
	f.yields(given, "three", "four")
}

func TestCrashWithOldSnapshot(t *testing.T) {
	s := start(t, "--dbfilename", "dump.rdb")
	j := s.journal()
	kept := add(t, j, many("kept", 5)...)
	s.do("SAVE")
	lost := add(t, j, many("lost", 5)...)
	s.crash()
	s.run()

	// Told without anybody appending.
	f := follow(t, j, lost[2])
	floor := f.gap()
	require.NotEqual(t, kept[0].Epoch(), floor.Epoch())
	require.Zero(t, floor.Seq())
	again := moved(kept, floor.Epoch())
	f.yields(again, many("kept", 5)...)
	_, newest, err := j.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, again[4], newest, "one new epoch, whoever asks")
	given := add(t, s.journal(), "new")
	require.Equal(t, broadcast.MakeID(floor.Epoch(), 6), given[0])
	f.yields(given, "new")
	f = follow(t, j, again[2])
	f.yields(again[3:], many("kept", 5)[3:]...)
	f.yields(given, "new")
}

// moved returns IDs as they are in another epoch.
func moved(ids []broadcast.ID, epoch uint64) []broadcast.ID {
	other := make([]broadcast.ID, len(ids))
	for i, id := range ids {
		other[i] = broadcast.MakeID(epoch, id.Seq())
	}
	return other
}

func TestCrashOfDurableEngine(t *testing.T) {
	for _, test := range []struct {
		name    string
		durable bool
	}{
		{"said", true},
		{"not said", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, "--appendonly", "yes", "--appendfsync", "always")
			j := &redisjournal.Journal{Client: s.client("node"), Durable: test.durable, Logger: quiet()}
			ids := add(t, j, "one", "two")
			s.crash()
			s.run()
			three := add(t, j, "three")
			f := follow(t, j, ids[0])
			if test.durable {
				f.yields(ids[1:], "two")
				require.Equal(t, ids[1].Seq()+1, three[0].Seq())
			} else {
				epoch := f.gap().Epoch()
				require.Equal(t, three[0].Epoch(), epoch)
				f.yields(moved(ids, epoch), "one", "two")
			}
			f.yields(three, "three")
		})
	}
}

func TestStreamGoneUnderTail(t *testing.T) {
	for _, test := range []struct {
		name    string
		command []any
	}{
		{"FLUSHALL", []any{"FLUSHALL"}},
		{"DEL", []any{"DEL", "fanfare"}},
		{"UNLINK", []any{"UNLINK", "fanfare"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			j := s.journal()
			ids := add(t, j, many("old", 10)...)
			f := follow(t, j, ids[8])
			f.yields(ids[9:], "old9")
			s.do(test.command...)
			// The new stream overtakes the old: its 11th entry must not be taken for the
			// one that follows the old's 10th.
			texts := many("new", 20)
			given := add(t, s.journal(), texts...)
			require.NotEqual(t, ids[0].Epoch(), given[0].Epoch())
			require.Equal(t, broadcast.MakeID(given[0].Epoch(), 0), f.gap())
			f.yields(given, texts...)

			s.do(test.command...)
			require.NotEqual(t, given[0].Epoch(), f.gap().Epoch(), "told although nobody appends")
		})
	}
}

func TestTrimUnderSlowTail(t *testing.T) {
	s := start(t)
	j := s.journal()
	texts := many("x", 400)
	ids := add(t, j, texts...)
	f := follow(t, j, broadcast.ID{})
	f.yields(ids, "x0")
	s.do("XTRIM", "fanfare", "MAXLEN", 10)
	f.yields(ids[1:], texts[1:128]...) // which it had read
	require.Equal(t, ids[389], f.gap())
	f.yields(ids[390:], texts[390:]...)

	f = follow(t, j, ids[100])
	require.Equal(t, ids[389], f.gap())
	oldest, newest, err := j.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, [2]broadcast.ID{ids[390], ids[399]}, [2]broadcast.ID{oldest, newest})

	s.do("XTRIM", "fanfare", "MAXLEN", 0)
	f = follow(t, j, ids[395])
	require.Equal(t, ids[399], f.gap(), "told although nothing follows")
	oldest, newest, err = j.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, broadcast.MakeID(ids[0].Epoch(), ids[399].Seq()+1), oldest)
	require.Equal(t, ids[399], newest)
	next := add(t, j, "next")
	require.Equal(t, oldest, next[0], "the numbers go on")
	f.yields(next, "next")

	_, err = s.admin.TxPipelined(t.Context(), gone(t))
	require.NoError(t, err)
	require.Equal(t, next[0].Seq()+1, f.gap().Seq(), "one that came and went")
}

func TestTailOfImpossiblePlaces(t *testing.T) {
	s := start(t)
	j := s.journal()
	ids := add(t, j, "one")
	f := follow(t, j, broadcast.MakeID(ids[0].Epoch()^2, math.MaxUint64))
	f.gap()
	f.yields(ids, "one")
	for _, ahead := range []uint64{2, math.MaxUint64} {
		f = follow(t, j, broadcast.MakeID(ids[0].Epoch(), ahead))
		ended := make(chan error, 1)
		go func() {
			_, err, _ := f.next()
			ended <- err
		}()
		require.Eventually(t, func() bool { return s.waiting("node") }, patience, time.Millisecond)
		f.cancel()
		require.ErrorIs(t, <-ended, context.Canceled, "it holds until the stream has got there")
	}
}

func TestMaxEntries(t *testing.T) {
	s := start(t)
	j := &redisjournal.Journal{Client: s.client("node"), MaxEntries: 200}
	for range 10 {
		add(t, j, many("x", 100)...)
	}
	require.LessOrEqual(t, s.admin.XLen(t.Context(), "fanfare").Val(), int64(300))
	require.GreaterOrEqual(t, s.admin.XLen(t.Context(), "fanfare").Val(), int64(200))
}

func TestForeignEntries(t *testing.T) {
	s := start(t)
	j := s.journal()
	ids := add(t, j, "one")
	f := follow(t, j, broadcast.ID{})
	f.yields(ids, "one")
	s.do("XADD", "fanfare", "0-*", "somebody", "else's")
	require.Equal(t, ids[0].Seq()+1, f.nothing().Seq())
	ids = add(t, j, "two")
	f.yields(ids, "two")
	s.do("XADD", "fanfare", "0-50", "somebody", "else's")
	require.Equal(t, uint64(49), f.gap().Seq())
	require.Equal(t, uint64(50), f.nothing().Seq())
	s.do("XDEL", "fanfare", "0-50")
	ids = add(t, j, "three")
	require.Equal(t, uint64(51), ids[0].Seq(), "a deleted entry's ID is not given again")
	f.yields(ids, "three")

	for _, id := range []string{"7-*", "*"} {
		s.do("XADD", "fanfare", id, "somebody", "else's")
		require.ErrorContains(t, f.fails(), "delete the key")
		_, _, err := j.Bounds(t.Context())
		require.ErrorContains(t, err, "delete the key")
		_, err = j.Append(t.Context(), broadcast.Message{Topic: "t"})
		require.ErrorContains(t, err, "delete the key")
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
		s.do("DEL", "fanfare")
		f = follow(t, j, ids[0])
		f.gap()
		ids = add(t, j, "four")
		f.yields(ids, "four")
	}
}

func TestKeyOfSomebodyElse(t *testing.T) {
	for _, test := range []struct {
		name, reason string
		command      []any
	}{
		{"a string", "WRONGTYPE the key holds a string", []any{"SET", "fanfare", "x"}},
		{"a hash", "WRONGTYPE the key holds a hash", []any{"HSET", "fanfare", "x", "y"}},
		{"a stream", "NOTJOURNAL", []any{"XADD", "fanfare", "*", "x", "y"}},
		{"a stream with a group", "NOTJOURNAL", []any{"XGROUP", "CREATE", "fanfare", "workers", "$", "MKSTREAM"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			s.do(test.command...)
			j := s.journal()
			_, err := j.Append(t.Context(), broadcast.Message{Topic: "t"})
			require.ErrorContains(t, err, test.reason)
			require.ErrorIs(t, err, broadcast.ErrNotPublished)
			_, _, err = j.Bounds(t.Context())
			require.ErrorContains(t, err, test.reason)
			require.ErrorContains(t, follow(t, j, broadcast.ID{}).fails(), test.reason)
			s.do("DEL", "fanfare")
			ids := add(t, j, "one")
			follow(t, j, broadcast.ID{}).yields(ids, "one")
		})
	}
}

// Two servers and their clients, over an engine that loses its tail.
func TestHubsOverLostTail(t *testing.T) {
	s := start(t, "--dbfilename", "dump.rdb")
	one, two := run(t, s.journal()), run(t, s.journal())
	publish := func(hub *broadcast.Hub, text string) broadcast.ID {
		var id broadcast.ID
		require.Eventually(t, func() bool {
			var err error
			id, err = hub.Publish(t.Context(), broadcast.Message{Topic: "t", Data: []byte(text)})
			return err == nil
		}, patience, 10*time.Millisecond)
		return id
	}
	given := map[broadcast.ID]bool{publish(one, "kept"): true}
	s.do("SAVE")
	given[publish(two, "lost")] = true
	lost := publish(one, "lost too")
	given[lost] = true
	require.Eventually(t, func() bool { return two.Stats().Position == lost }, patience, time.Millisecond)
	sub, err := two.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"t"}, After: lost})
	require.NoError(t, err)
	defer sub.Close()
	s.crash()
	s.run()
	id := publish(one, "new")
	require.False(t, given[id], "%v was given twice", id)

	var texts []string
	gaps := 0
	buf := make([]*broadcast.Message, 8)
	require.Eventually(t, func() bool {
		n, err := sub.Poll(buf)
		if errors.Is(err, broadcast.ErrGap) {
			gaps++
		}
		for _, m := range buf[:n] {
			texts = append(texts, string(m.Data))
		}
		return len(texts) > 1
	}, patience, time.Millisecond)
	require.Equal(t, []string{"kept", "new"}, texts)
	require.Equal(t, 1, gaps)
}

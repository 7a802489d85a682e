package redisjournal_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
	"github.com/fanfare-go/fanfare/internal/longtest"
)

// A stream that was created again has a new epoch, which a tail yields as a gap.
func TestEpochAfterACrashWithoutPersistence(t *testing.T) {
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

// After a crash with an old snapshot the stream gets one new epoch, also if nobody appends, and
// what is left keeps its sequences.
func TestEpochAfterACrashWithAnOldSnapshot(t *testing.T) {
	s := start(t, "--dbfilename", "dump.rdb")
	j := s.journal()
	kept := add(t, j, many("kept", 5)...)
	s.do("SAVE")
	lost := add(t, j, many("lost", 5)...)
	s.crash()
	s.run()

	f := follow(t, j, lost[2])
	floor := f.gap()
	require.NotEqual(t, kept[0].Epoch(), floor.Epoch())
	require.Zero(t, floor.Seq())
	again := moved(kept, floor.Epoch())
	f.yields(again, many("kept", 5)...)
	_, newest, err := j.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, again[4], newest, "the same new epoch for every call")
	given := add(t, s.journal(), "new")
	require.Equal(t, broadcast.MakeID(floor.Epoch(), 6), given[0])
	f.yields(given, "new")
	f = follow(t, j, again[2])
	f.yields(again[3:], many("kept", 5)[3:]...)
	f.yields(given, "new")
}

// moved returns the IDs of the same sequences in another epoch.
func moved(ids []broadcast.ID, epoch uint64) []broadcast.ID {
	other := make([]broadcast.ID, len(ids))
	for i, id := range ids {
		other[i] = broadcast.MakeID(epoch, id.Seq())
	}
	return other
}

// The epoch that followed a crash is itself lost by the next crash; still no ID is given twice.
func TestEpochAfterRepeatedCrashes(t *testing.T) {
	s := start(t, "--dbfilename", "dump.rdb")
	j := s.journal()
	add(t, j, "kept")
	s.do("SAVE")
	given := make(map[broadcast.ID]bool)
	for range 3 {
		for _, id := range add(t, j, "lost", "lost too") {
			require.False(t, given[id], "%v was given twice", id)
			given[id] = true
		}
		s.crash()
		s.run()
	}
}

// With Durable a crash is not a gap; without it, it is, whatever the engine has kept.
func TestEpochAfterACrashOfADurableEngine(t *testing.T) {
	for _, test := range []struct {
		name    string
		durable bool
	}{
		{"Durable", true},
		{"not Durable", false},
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

// While the engine crashes again and again, with older and newer snapshots, no ID is given to
// two messages, and tails yield what follows without a hole.
func TestNoIDTwiceDuringCrashes(t *testing.T) {
	t.Parallel()
	s := start(t, "--dbfilename", "dump.rdb")
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()

	given := &givenIDs{t: t}
	for appender := range 3 {
		j := s.journal()
		all.Go(func() { given.appendTo(ctx, j, appender) })
	}
	var positions [2]atomic.Pointer[broadcast.ID]
	for i := range positions {
		j := s.journal()
		all.Go(func() { given.follow(ctx, j, &positions[i]) })
	}
	for range 6 {
		given.waitForMore(50)
		s.do("SAVE")
		given.waitForMore(50)
		s.crash()
		s.run()
	}
	given.waitForMore(50)
	_, newest, err := s.journal().Bounds(t.Context())
	require.NoError(t, err)
	for i := range positions {
		require.Eventually(t, func() bool {
			position := positions[i].Load()
			return position.Epoch() == newest.Epoch() && position.Seq() >= newest.Seq()
		}, patience, time.Millisecond)
	}
}

// givenIDs checks that each ID is given to one text only.
type givenIDs struct {
	t        *testing.T
	texts    sync.Map // by ID
	appended atomic.Int64
}

func (g *givenIDs) record(id broadcast.ID, text string) {
	if before, twice := g.texts.LoadOrStore(id, text); twice {
		assert.Equal(g.t, before, text, "%v was given twice", id)
	}
}

// appendTo appends messages until ctx ends.
func (g *givenIDs) appendTo(ctx context.Context, j broadcast.Journal, appender int) {
	for i := 0; ctx.Err() == nil; i++ {
		text := fmt.Sprint(appender, " ", i)
		ids, err := j.Append(ctx, broadcast.Message{Topic: "t", Data: []byte(text)})
		if err == nil {
			g.record(ids[0], text)
			g.appended.Add(1)
		}
	}
}

// follow reads a journal until ctx ends, and opens a Tail that has ended again. It stores
// the ID of what was yielded last.
func (g *givenIDs) follow(ctx context.Context, j broadcast.Journal, position *atomic.Pointer[broadcast.ID]) {
	var last broadcast.ID
	epochs := make(map[uint64]bool) // that it was in
	for ctx.Err() == nil {
		for m, err := range j.Tail(ctx, last) {
			if m.ID.Epoch() != last.Epoch() && !m.ID.IsZero() {
				assert.False(g.t, epochs[m.ID.Epoch()], "the tail returned to the epoch of %v", m.ID)
				epochs[m.ID.Epoch()] = true
			}
			switch {
			case err == nil:
				if !last.IsZero() {
					assert.Equal(g.t, broadcast.MakeID(last.Epoch(), last.Seq()+1), m.ID)
				}
				if m.Topic != "" {
					g.record(m.ID, string(m.Data))
				}
			case !errors.Is(err, broadcast.ErrGap):
				continue
			}
			last = m.ID
			position.Store(&m.ID)
		}
	}
}

// waitForMore waits until n more messages have been appended.
func (g *givenIDs) waitForMore(n int64) {
	g.t.Helper()
	until := g.appended.Load() + n
	require.Eventually(g.t, func() bool { return g.appended.Load() >= until }, patience, time.Millisecond)
}

// A stream that was deleted under a tail has a new epoch, also if it is longer by then than it
// was, or if nobody appends.
func TestEpochAfterADeletion(t *testing.T) {
	longtest.Only(t)
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
			// The new stream becomes longer than the old one. Its 11th entry does not follow
			// the 10th of the old one.
			texts := many("new", 20)
			given := add(t, s.journal(), texts...)
			require.NotEqual(t, ids[0].Epoch(), given[0].Epoch())
			require.Equal(t, broadcast.MakeID(given[0].Epoch(), 0), f.gap())
			f.yields(given, texts...)

			s.do(test.command...)
			require.NotEqual(t, given[0].Epoch(), f.gap().Epoch(), "the gap is yielded although nobody appends")
		})
	}
}

// A subscriber gets one gap when the engine has lost its newest entries, and goes on after what it
// has had of those that are still there.
func TestHubsAfterALoss(t *testing.T) {
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
		return len(texts) > 0 && texts[len(texts)-1] == "new"
	}, patience, time.Millisecond)
	require.Equal(t, []string{"new"}, texts)
	require.Equal(t, 1, gaps)
}

package filejournal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/broadcast/filejournal"
)

// compacting is a journal that can be made to remove its segments.
type compacting struct {
	*filejournal.Journal
	t *testing.T
}

func (j compacting) Compact(int) { require.NoError(j.t, filejournal.RemoveSegments(j.Journal)) }

func TestJournalConformsAfterRetention(t *testing.T) {
	broadcasttest.TestJournal(t, func(t *testing.T) broadcast.Journal {
		return compacting{open(t, t.TempDir()), t}
	})
}

// beginning is what a Tail yields from the beginning of the log on.
type beginning struct {
	values  map[string]string // by topic and Key
	events  []string
	partial map[string]bool
	gaps    []uint64
}

func readBeginning(t *testing.T, j *filejournal.Journal) beginning {
	t.Helper()
	_, newest, err := j.Bounds(t.Context())
	require.NoError(t, err)
	b := beginning{values: map[string]string{}, partial: map[string]bool{}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	last := uint64(0)
	for m, err := range j.Tail(ctx, broadcast.MakeID(newest.Epoch(), 0)) {
		if m.ID.Seq() == 0 { // it says something of earlier epochs
			require.ErrorIs(t, err, broadcast.ErrGap)
			continue
		}
		compacted, events := errors.AsType[*broadcast.CompactedError](err)
		switch {
		case events:
			for _, topic := range compacted.Topics {
				b.partial[topic] = true
			}
			if compacted.Topics == nil {
				b.partial["all"] = true
			}
		case errors.Is(err, broadcast.ErrCompacted):
		case errors.Is(err, broadcast.ErrGap):
			b.gaps = append(b.gaps, m.ID.Seq())
			clear(b.values)
		default:
			require.NoError(t, err)
			require.Equal(t, last+1, m.ID.Seq())
			switch {
			case m.Removed:
				delete(b.values, m.Topic+"/"+m.Key)
			case m.Key != "":
				b.values[m.Topic+"/"+m.Key] = string(m.Data)
			case m.Topic != "bulk":
				b.events = append(b.events, string(m.Data))
			}
		}
		require.Greater(t, m.ID.Seq(), last)
		if last = m.ID.Seq(); m.ID == newest {
			return b
		}
	}
	require.Fail(t, "the Tail ended")
	return b
}

// fill publishes so much that the log removes what it had before.
func fill(t *testing.T, j *filejournal.Journal) {
	t.Helper()
	_, before, err := j.Bounds(t.Context())
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		for range 20 {
			_, err := j.Append(t.Context(), broadcast.Message{Topic: "bulk", Data: bytes.Repeat([]byte("x"), 20_000)})
			require.NoError(t, err)
		}
		oldest, _, err := j.Bounds(t.Context())
		require.NoError(t, err)
		return oldest.Seq() > before.Seq()
	}, 20*time.Second, time.Millisecond)
}

func set(t *testing.T, j *filejournal.Journal, m broadcast.Message) {
	t.Helper()
	_, err := j.Append(t.Context(), m)
	require.NoError(t, err)
}

func newSmall(t *testing.T, dir string) *filejournal.Journal {
	j := open(t, dir)
	j.MaxBytes, j.SyncEvery = 2<<20, -1
	return j
}

// Of messages that were removed because of MaxBytes, the values of Keys stay, the newest First and
// the End of each topic, also after a restart and after further removals.
func TestStateOutlivesRetention(t *testing.T) {
	dir := t.TempDir()
	j := newSmall(t, dir)
	for i := range 10 {
		set(t, j, broadcast.Message{Topic: "prices", Key: fmt.Sprint("k", i), Data: []byte("old")})
		set(t, j, broadcast.Message{Topic: "prices", Key: "changes", Data: fmt.Append(nil, i)})
	}
	set(t, j, broadcast.Message{Topic: "prices", Key: "k3", Removed: true})
	set(t, j, broadcast.Message{Topic: "text", Data: []byte("piece")})
	set(t, j, broadcast.Message{Topic: "text", First: true, Data: []byte("first")})
	set(t, j, broadcast.Message{Topic: "done", Data: []byte("event")})
	set(t, j, broadcast.Message{Topic: "done", End: true, Data: []byte("end")})
	fill(t, j)
	set(t, j, broadcast.Message{Topic: "prices", Key: "k4", Removed: true})
	set(t, j, broadcast.Message{Topic: "prices", Key: "k5", Data: []byte("new")})
	for range 2 {
		got := readBeginning(t, j)
		want := map[string]string{"prices/changes": "9", "prices/k5": "new"}
		for _, i := range []int{0, 1, 2, 6, 7, 8, 9} {
			want[fmt.Sprint("prices/k", i)] = "old"
		}
		require.Equal(t, want, got.values)
		require.Equal(t, []string{"first", "end"}, got.events)
		require.Empty(t, got.gaps)
		require.False(t, got.partial["prices"])
		require.False(t, got.partial["text"])
		require.True(t, got.partial["done"])
		fill(t, j)
		require.NoError(t, j.Close())
		j = newSmall(t, dir)
	}
}

// State has at most half of MaxBytes. The oldest goes first, which is a gap for those who begin.
func TestStateIsBounded(t *testing.T) {
	dir := t.TempDir()
	j := newSmall(t, dir)
	for i := range 150 {
		set(t, j, broadcast.Message{Topic: "prices", Key: fmt.Sprintf("k%03d", i), Data: bytes.Repeat([]byte("v"), 20_000)})
	}
	fill(t, j)
	fill(t, j)
	got := readBeginning(t, j)
	require.Len(t, got.gaps, 1)
	require.NotContains(t, got.values, "prices/k000")
	require.Contains(t, got.values, "prices/k149")
	require.InDelta(t, 50, len(got.values), 6, "half of MaxBytes")
	require.Eventually(t, func() bool { return size(t, dir) < 2<<20+1<<19 }, 10*time.Second, 10*time.Millisecond)
}

// Beyond 16,384 topics that lack events, all do.
func TestTopicsThatLackEventsAreBounded(t *testing.T) {
	j := newSmall(t, t.TempDir())
	ms := make([]broadcast.Message, 0, 20_000)
	for i := range 20_000 {
		ms = append(ms, broadcast.Message{Topic: fmt.Sprint("room/", i)})
	}
	_, err := j.Append(t.Context(), ms...)
	require.NoError(t, err)
	fill(t, j)
	got := readBeginning(t, j)
	require.True(t, got.partial["all"])
	require.Less(t, len(got.partial), 100)
}

// A file of state that is damaged is a loss that is reported.
func TestDamagedStateIsAGap(t *testing.T) {
	dir := t.TempDir()
	j := newSmall(t, dir)
	for i := range 10 {
		set(t, j, broadcast.Message{Topic: "prices", Key: fmt.Sprint("k", i), Data: []byte("value")})
	}
	fill(t, j)
	require.NoError(t, j.Close())
	for _, fromEnd := range []int{10, 80} { // in a record, in the header
		names, err := filepath.Glob(filepath.Join(dir, "*.kept"))
		require.NoError(t, err)
		require.Len(t, names, 1)
		b, err := os.ReadFile(names[0])
		require.NoError(t, err)
		damaged := bytes.Clone(b)
		damaged[max(0, len(b)-fromEnd)] ^= 1
		require.NoError(t, os.WriteFile(names[0], damaged, 0o600))
		j = newSmall(t, dir)
		got := readBeginning(t, j)
		require.NotEmpty(t, got.gaps)
		set(t, j, broadcast.Message{Topic: "prices", Key: "k0", Data: []byte("value")})
		fill(t, j)
		require.NoError(t, j.Close())
	}
}

// What is appended after the next segment could not be made is not hidden by that.
func TestSegmentThatCouldNotBeMade(t *testing.T) {
	disk := newFaultyDisk(rand.New(rand.NewPCG(1, 0)))
	dir := t.TempDir()
	j := filejournal.With(&filejournal.Journal{Dir: dir}, disk)
	publish(t, j, "one")
	disk.failNext["sync"] = errDisk
	require.ErrorIs(t, filejournal.RemoveSegments(j), errDisk)
	publish(t, j, "two")
	disk.failNext["write"] = errDisk
	_, err := j.Append(t.Context(), broadcast.Message{Topic: "a"})
	require.ErrorIs(t, err, errDisk)
	last := publish(t, j, "three")
	require.NoError(t, j.Close())

	j = open(t, dir)
	var got []string
	for m, err := range j.Tail(t.Context(), broadcast.ID{}) {
		require.NoError(t, err)
		got = append(got, string(m.Data))
		if m.ID == last {
			break
		}
	}
	require.Equal(t, []string{"one", "two", "three"}, got)
}

// No segment is removed while a Tail reads the beginning: a Key that is removed meanwhile would stay.
func TestBeginningIsReadWhileSegmentsAreRemoved(t *testing.T) {
	j := newSmall(t, t.TempDir())
	for i := range 10 {
		set(t, j, broadcast.Message{Topic: "prices", Key: fmt.Sprint("k", i), Data: []byte("1")})
	}
	fill(t, j)
	last := publish(t, j, "last")
	next, stop := iter.Pull2(j.Tail(t.Context(), broadcast.MakeID(last.Epoch(), 0)))
	defer stop()
	m, err, _ := next()
	require.NoError(t, err)
	for range 400 { // four times what is kept
		set(t, j, broadcast.Message{Topic: "bulk", Data: bytes.Repeat([]byte("x"), 20_000)})
	}
	for m.ID != last {
		m, err, _ = next()
		require.NotErrorIs(t, err, broadcast.ErrGap)
	}
	require.NotPanics(t, stop)
	fill(t, j)
}

// A segment that ends while the log is tidied is removed once it has its file of state.
func TestSegmentThatEndsWhileTheLogIsTidied(t *testing.T) {
	j := open(t, t.TempDir())
	j.MaxBytes = 1 << 20
	big := broadcast.Message{Topic: "bulk", Data: make([]byte, 600<<10)}
	_, err := j.Append(t.Context(), big, big, broadcast.Message{Topic: "prices", Key: "k", Data: []byte("1")})
	require.NoError(t, err) // one segment, which alone is too much
	require.NoError(t, filejournal.RollWhileTidying(j))
	oldest, newest, err := j.Bounds(t.Context())
	require.NoError(t, err)
	require.Greater(t, oldest.Seq(), newest.Seq(), "the segment has not been removed")
	require.Equal(t, map[string]string{"prices/k": "1"}, readBeginning(t, j).values)
}

// A Tail of the beginning of an empty log keeps no segment: it has come to the newest entry.
func TestTailOfAnEmptyLogKeepsNothing(t *testing.T) {
	for _, name := range []string{"while it waits", "after it has ended"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &filejournal.Journal{Dir: t.TempDir(), MaxBytes: 1 << 20}
				defer func() { require.NoError(t, j.Close()) }()
				_, newest, err := j.Bounds(t.Context())
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					for range j.Tail(ctx, broadcast.MakeID(newest.Epoch(), 0)) {
					}
				}()
				synctest.Wait()
				if name == "after it has ended" {
					cancel()
					synctest.Wait()
				}
				for range 3 {
					set(t, j, broadcast.Message{Topic: "bulk", Data: make([]byte, 600<<10)})
				}
				require.NoError(t, filejournal.Tidy(j))
				oldest, _, err := j.Bounds(t.Context())
				require.NoError(t, err)
				require.Greater(t, oldest.Seq(), uint64(1), "nothing has been removed")
			})
		})
	}
}

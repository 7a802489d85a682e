package broadcasttest_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// add appends a message for each text.
func add(t *testing.T, j *broadcasttest.Journal, texts ...string) []broadcast.ID {
	t.Helper()
	var ms []broadcast.Message
	for _, text := range texts {
		ms = append(ms, broadcast.Message{Topic: "t", Data: []byte(text)})
	}
	ids, err := j.Append(t.Context(), ms...)
	require.NoError(t, err)
	require.Len(t, ids, len(ms))
	return ids
}

// tail collects what a running Tail yields. It is used in a bubble.
type tail struct {
	t    *testing.T
	came []string
	last broadcast.ID
	end  error // the error that ended it
}

func follow(t *testing.T, j *broadcasttest.Journal, after broadcast.ID) *tail {
	f := &tail{t: t}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		for m, err := range j.Tail(ctx, after) {
			switch {
			case errors.Is(err, broadcast.ErrGap):
				f.came = append(f.came, "gap")
			case err != nil:
				f.end = err
				f.came = append(f.came, "end")
				continue
			default:
				f.came = append(f.came, string(m.Data))
			}
			f.last = m.ID
		}
	}()
	return f
}

// yields checks what the Tail has yielded since the last check.
func (f *tail) yields(want ...string) {
	f.t.Helper()
	synctest.Wait()
	require.Equal(f.t, append([]string{}, want...), append([]string{}, f.came...))
	f.came = nil
}

func bounds(t *testing.T, j *broadcasttest.Journal) (oldest, newest broadcast.ID) {
	t.Helper()
	oldest, newest, err := j.Bounds(t.Context())
	require.NoError(t, err)
	return oldest, newest
}

// An empty Journal has an epoch of its own.
func TestJournalEmpty(t *testing.T) {
	var j broadcasttest.Journal
	oldest, newest := bounds(t, &j)
	require.Zero(t, newest.Seq())
	require.EqualValues(t, 1, oldest.Seq())
	require.Equal(t, newest.Epoch(), oldest.Epoch())
	require.Equal(t, broadcast.MakeID(newest.Epoch(), 1), add(t, &j, "first")[0])
	var other broadcasttest.Journal
	_, elsewhere := bounds(t, &other)
	require.NotEqual(t, newest.Epoch(), elsewhere.Epoch())
}

// Trim is a gap for Tails that have not yielded the entries, at once and not with the next entry.
func TestJournalTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j broadcasttest.Journal
		ids := add(t, &j, "0", "1", "2", "3")
		live := follow(t, &j, broadcast.ID{})
		live.yields("0", "1", "2", "3")
		j.Trim(2)
		live.yields()
		oldest, newest := bounds(t, &j)
		require.Equal(t, ids[2], oldest)
		require.Equal(t, ids[3], newest)
		old := follow(t, &j, ids[0])
		old.yields("gap", "2", "3")
		follow(t, &j, ids[1]).yields("2", "3")
		follow(t, &j, broadcast.ID{}).yields("2", "3")

		j.Trim(100)
		oldest, newest = bounds(t, &j)
		require.Equal(t, ids[3], newest)
		require.Equal(t, newest.Seq()+1, oldest.Seq())
		gone := follow(t, &j, ids[2])
		gone.yields("gap")
		require.Equal(t, ids[3], gone.last, "the gap has the ID of the last lost entry")
		follow(t, &j, ids[3]).yields()
		add(t, &j, "4")
		for _, f := range []*tail{live, old, gone} {
			f.yields("4")
		}
	})
}

// Fail acts on one node, whose running Tails it ends.
func TestJournalFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("away")
		var j broadcasttest.Journal
		node := j.Node()
		ids := add(t, &j, "0")
		mine, others := follow(t, &j, broadcast.ID{}), follow(t, node, broadcast.ID{})
		mine.yields("0")
		others.yields("0")

		j.Fail(away)
		mine.yields("end")
		require.ErrorIs(t, mine.end, away)
		_, err := j.Append(t.Context(), broadcast.Message{Topic: "t"})
		require.ErrorIs(t, err, away)
		_, _, err = j.Bounds(t.Context())
		require.ErrorIs(t, err, away)
		follow(t, &j, ids[0]).yields("end")
		add(t, node, "1") // the other node still works
		others.yields("1")

		j.Fail(nil)
		follow(t, &j, ids[0]).yields("1")
		short := follow(t, &j, broadcast.ID{})
		short.yields("0", "1")
		j.Fail(away)
		j.Fail(nil)
		short.yields("end")
	})
}

// Hold acts on the Tails of one node; Release lets them yield what they have missed.
func TestJournalHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j broadcasttest.Journal
		node := j.Node()
		held, free := follow(t, &j, broadcast.ID{}), follow(t, node, broadcast.ID{})
		held.yields()
		j.Hold()
		ids := add(t, &j, "0", "1")
		held.yields()
		free.yields("0", "1")
		_, newest := bounds(t, &j)
		require.Equal(t, ids[1], newest)
		late := follow(t, &j, ids[0])
		j.Trim(1)
		time.Sleep(time.Hour)
		late.yields()
		held.yields()
		j.Release()
		held.yields("gap", "1")
		late.yields("1")

		j.Hold()
		j.Recreate()
		free.yields("gap")
		held.yields()
		j.Restart()
		held.yields("end")
		free.yields("end")
		held = follow(t, &j, ids[1])
		held.yields()
		j.Release()
		held.yields("gap")
	})
}

// LoseTail moves what is left to a new epoch, which Tails yield as a gap.
func TestJournalLoseTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j broadcasttest.Journal
		ids := add(t, &j, "0", "1", "2", "3", "4")
		live := follow(t, &j, ids[2])
		live.yields("3", "4")
		j.Trim(1)
		j.LoseTail(2)
		oldest, newest := bounds(t, &j)
		require.EqualValues(t, 2, oldest.Seq())
		require.EqualValues(t, 3, newest.Seq())
		require.NotEqual(t, ids[0].Epoch(), newest.Epoch())
		live.yields("gap", "1", "2")
		require.Equal(t, newest, live.last)
		again := add(t, &j, "new")[0]
		require.NotContains(t, ids, again)
		require.EqualValues(t, 4, again.Seq())
		live.yields("new")
		follow(t, &j, ids[4]).yields("gap", "1", "2", "new")
		follow(t, &j, oldest).yields("2", "new")

		j.LoseTail(100)
		live.yields("gap")
		_, newest = bounds(t, &j)
		require.Zero(t, newest.Seq())
		add(t, &j, "newer")
		live.yields("newer")
	})
}

// A Tail from the beginning yields a gap up to the newest entry that is left, once LoseTail has lost
// some that Trim or Compact had removed: of what Compact kept, newer ones stood for older ones.
func TestJournalLoseTailOfRemoved(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(*broadcasttest.Journal)
		want []string
	}{
		{"compacted, lost others", func(j *broadcasttest.Journal) { j.Compact(2); j.LoseTail(1) }, []string{"0 gap", "1 compacted", "2 new", "3 next"}},
		{"compacted, lost none", func(j *broadcasttest.Journal) { j.Compact(3); j.LoseTail(0) }, []string{"0 gap", "1 compacted", "2 new", "3 other", "4 next"}},
		{"compacted, lost its newest", func(j *broadcasttest.Journal) { j.Compact(3); j.LoseTail(1) }, []string{"0 gap", "2 gap", "3 next"}},
		{"compacted, lost what stood for another", func(j *broadcasttest.Journal) { j.Compact(2); j.LoseTail(2) }, []string{"0 gap", "1 gap", "2 next"}},
		{"compacted, lost all", func(j *broadcasttest.Journal) { j.Compact(3); j.LoseTail(3) }, []string{"1 next"}},
		{"trimmed", func(j *broadcasttest.Journal) { j.Trim(3); j.LoseTail(1) }, []string{"0 gap", "2 gap", "3 next"}},
		{"trimmed, with one left", func(j *broadcasttest.Journal) { j.Trim(2); j.LoseTail(2) }, []string{"0 gap", "1 gap", "2 next"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var j broadcasttest.Journal
			for _, m := range []broadcast.Message{{Key: "k", Data: []byte("old")}, {Key: "k", Data: []byte("new")}, {Key: "l", Data: []byte("other")}} {
				m.Topic = "t"
				_, err := j.Append(t.Context(), m)
				require.NoError(t, err)
			}
			c.lose(&j)
			_, err := j.Append(t.Context(), broadcast.Message{Topic: "t", Key: "m", Data: []byte("next")})
			require.NoError(t, err)
			for _, n := range []int{0, 1} { // as it is, and with the last one among what is compacted
				j.Compact(n)
				require.Equal(t, c.want, fromBeginning(t, &j))
			}
		})
	}
}

// fromBeginning returns what a Tail that reads the state yields up to the newest entry.
func fromBeginning(t *testing.T, j *broadcasttest.Journal) (came []string) {
	_, newest := bounds(t, j)
	for m, err := range j.Tail(t.Context(), broadcast.MakeID(newest.Epoch(), 0)) {
		what := string(m.Data)
		switch {
		case errors.Is(err, broadcast.ErrGap):
			what = "gap"
		case errors.Is(err, broadcast.ErrCompacted):
			what = "compacted"
		default:
			require.NoError(t, err)
		}
		came = append(came, fmt.Sprint(m.ID.Seq(), " ", what))
		if m.ID.Seq() >= newest.Seq() {
			break
		}
	}
	return came
}

// Recreate is a gap for the Tails of all nodes.
func TestJournalRecreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j broadcasttest.Journal
		old := add(t, &j, "0", "1")
		live, node := follow(t, &j, broadcast.ID{}), follow(t, j.Node(), old[0])
		live.yields("0", "1")
		node.yields("1")
		j.Recreate()
		oldest, newest := bounds(t, &j)
		require.Zero(t, newest.Seq())
		require.EqualValues(t, 1, oldest.Seq())
		require.NotEqual(t, old[0].Epoch(), newest.Epoch())
		for _, f := range []*tail{live, node, follow(t, &j, old[1])} {
			f.yields("gap")
			require.Equal(t, newest, f.last)
		}
		add(t, &j, "2")
		live.yields("2")
		node.yields("2")
	})
}

// What a Tail has still to yield of what was kept does not come in the epoch that follows.
func TestJournalRecreateDuringAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j broadcasttest.Journal
		old := add(t, &j, "0", "1", "2")
		j.Compact(1)
		j.Trim(1)
		j.Hold()
		live := follow(t, &j, broadcast.MakeID(old[0].Epoch(), 0))
		synctest.Wait()
		j.Recreate()
		j.Release()
		live.yields("gap")
		add(t, &j, "3")
		live.yields("3")
	})
}

// Restart ends the Tails of all nodes and changes nothing else.
func TestJournalRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j broadcasttest.Journal
		ids := add(t, &j, "0", "1")
		live, node := follow(t, &j, broadcast.ID{}), follow(t, j.Node(), broadcast.ID{})
		live.yields("0", "1")
		node.yields("0", "1")
		j.Restart()
		live.yields("end")
		node.yields("end")
		require.Error(t, live.end)
		follow(t, &j, ids[0]).yields("1")
		_, newest := bounds(t, &j)
		require.Equal(t, ids[1], newest)
	})
}

// An entry without a topic is yielded as its ID alone, any other as it is.
func TestJournalForeignEntries(t *testing.T) {
	var j broadcasttest.Journal
	ids, err := j.Append(t.Context(),
		broadcast.Message{Type: "foreign", Data: []byte("not a message")},
		broadcast.Message{Topic: "a\nb", Type: "gap"},
	)
	require.NoError(t, err)
	next, stop := iter.Pull2(j.Tail(t.Context(), broadcast.ID{}))
	defer stop()
	m, err, _ := next()
	require.NoError(t, err)
	require.Equal(t, broadcast.Message{ID: ids[0]}, m, "the ID alone")
	m, err, _ = next()
	require.NoError(t, err)
	require.Equal(t, broadcast.Message{ID: ids[1], Topic: "a\nb", Type: "gap"}, m)
}

// A change of Data after Append, or of yielded Data, does not change the entry.
func TestJournalCopiesData(t *testing.T) {
	var j broadcasttest.Journal
	data := []byte("data")
	_, err := j.Append(t.Context(), broadcast.Message{Topic: "t", Data: data})
	require.NoError(t, err)
	data[0] = 'x'
	for range 2 {
		for m, err := range j.Tail(t.Context(), broadcast.ID{}) {
			require.NoError(t, err)
			require.Equal(t, "data", string(m.Data))
			m.Data[0] = 'y'
			break
		}
	}
}

// A negative count panics and leaves the Journal usable.
func TestJournalNegativeCounts(t *testing.T) {
	var j broadcasttest.Journal
	require.Panics(t, func() { j.Trim(-1) })
	require.Panics(t, func() { j.LoseTail(-1) })
	add(t, &j, "still usable")
}

// Delay acts on one node.
func TestJournalDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j broadcasttest.Journal
		near := &broadcast.Hub{Journal: &j}
		node := j.Node()
		far := &broadcast.Hub{Journal: node}
		node.Delay(3 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go near.Run(ctx)
		go far.Run(ctx)
		synctest.Wait()
		begin, err := near.Position(ctx)
		require.NoError(t, err)
		began := time.Now()
		_, err = near.Publish(ctx, broadcast.Message{Topic: "a"})
		require.NoError(t, err)
		latency := func(hub *broadcast.Hub) time.Duration {
			for _, err := range broadcast.Messages(ctx, hub, broadcast.SubscribeOptions{Topics: []string{"a"}, After: begin}) {
				require.NoError(t, err)
				break
			}
			return time.Since(began)
		}
		require.Zero(t, latency(near))
		require.Equal(t, 3*time.Second, latency(far))
	})
}

// A node may refuse messages; the others of the same Append are added. The suite passes then.
func TestJournalRefuses(t *testing.T) {
	tooLarge := func(m broadcast.Message) error {
		if len(m.Data) > 1<<20 {
			return errors.New("too large")
		}
		return nil
	}
	j := new(broadcasttest.Journal)
	j.Refuse(tooLarge)
	large, small := broadcast.Message{Topic: "t", Data: make([]byte, 2<<20)}, broadcast.Message{Topic: "t"}
	ids, err := j.Append(t.Context(), small, large, small)
	var each broadcast.AppendErrors
	require.ErrorAs(t, err, &each)
	require.Len(t, each, 3)
	require.NoError(t, each[0])
	require.ErrorIs(t, each[1], broadcast.ErrNotPublished)
	require.ErrorContains(t, each[1], "too large")
	require.NoError(t, each[2])
	require.Equal(t, []uint64{1, 0, 2}, []uint64{ids[0].Seq(), ids[1].Seq(), ids[2].Seq()})
	_, err = j.Node().Append(t.Context(), large)
	require.NoError(t, err, "another node")
	j.Refuse(nil)
	_, err = j.Append(t.Context(), large)
	require.NoError(t, err)

	broadcasttest.TestJournal(t, func(t *testing.T) broadcast.Journal {
		j := new(broadcasttest.Journal)
		j.Refuse(tooLarge)
		return j
	})
}

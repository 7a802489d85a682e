package broadcast_test

import (
	"context"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// slowReads is a Journal whose Tails, but for the first, take a moment for each entry, and count
// them.
type slowReads struct {
	*broadcasttest.Journal
	each time.Duration

	mu      sync.Mutex
	tails   int
	from    []uint64
	entries int
	running int
	hang    bool // they yield nothing
}

func (j *slowReads) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.tails++; j.tails == 1 {
		return j.Journal.Tail(ctx, after)
	}
	j.from = append(j.from, after.Seq())
	hang := j.hang
	return func(yield func(broadcast.Message, error) bool) {
		j.count(1, 0)
		defer j.count(-1, 0)
		if hang {
			<-ctx.Done()
			yield(broadcast.Message{}, ctx.Err())
			return
		}
		for m, err := range j.Journal.Tail(ctx, after) {
			j.count(0, 1)
			time.Sleep(j.each)
			if !yield(m, err) {
				return
			}
		}
	}
}

func (j *slowReads) count(running, entries int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running += running
	j.entries += entries
}

func (j *slowReads) counted() (reads, entries, running int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.tails - 1, j.entries, j.running
}

// newSlowReads starts a server on a journal with entries on a topic of nobody's, of which every
// hundredth is on "x", and returns where they begin.
func newSlowReads(t *testing.T, entries int, each time.Duration) (*server, *slowReads, broadcast.ID) {
	engine, j := new(broadcasttest.Journal), &slowReads{each: each}
	s := newStoppedServer(t, engine, func(inner broadcast.Journal) broadcast.Journal {
		j.Journal = inner.(*broadcasttest.Journal)
		return j
	})
	_, begin, err := engine.Bounds(t.Context())
	require.NoError(t, err)
	group := make([]broadcast.Message, 100)
	for i := range group {
		group[i].Topic = "nobody"
	}
	group[99].Topic = "x"
	for range entries / 100 {
		_, err := engine.Append(t.Context(), group...)
		require.NoError(t, err)
	}
	s.start()
	require.NoError(t, s.Ready(t.Context()))
	return s, j, begin
}

// A read ends when nobody is left whom it can serve: all have gone, have more than they may have,
// or have ended.
func TestHistoryReadEndsWithItsReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, j, begin := newSlowReads(t, 10_000, time.Millisecond)
		first, second := s.resume(begin, "x"), s.resume(begin, "nobody", "x")
		time.Sleep(20 * time.Millisecond)
		_, _, running := j.counted()
		require.Equal(t, 1, running)
		first.sub.Close()
		second.sub.Close()
		synctest.Wait()
		time.Sleep(2 * time.Millisecond)
		_, entries, running := j.counted()
		require.Zero(t, running, "it ends with its last reader")
		require.Less(t, entries, 50)

		// Also if the engine yields nothing.
		j.mu.Lock()
		j.hang = true
		j.mu.Unlock()
		gone := s.resume(begin, "x")
		synctest.Wait()
		gone.sub.Close()
		synctest.Wait()
		_, _, running = j.counted()
		require.Zero(t, running)
		require.Empty(t, s.log.with("trying again"), "that is no failure")
		j.mu.Lock()
		j.hang = false
		j.mu.Unlock()

		// One that has 16 times Keep gets no more.
		_, before, _ := j.counted()
		much := s.resume(begin, "nobody")
		time.Sleep(time.Minute)
		require.Equal(t, "gap", much.poll()[0])
		_, after, _ := j.counted()
		require.Less(t, after-before, 16*16+10, "entries read for one that may have 256")
		require.Equal(t, uint64(1), s.Stats().Gaps)
	})
}

// A read that yields nothing is begun anew.
func TestHistoryReadThatIsStuckIsBegunAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, j, begin := newSlowReads(t, 3_000, time.Microsecond)
		j.mu.Lock()
		j.hang = true
		j.mu.Unlock()
		r := s.resume(begin, "x")
		time.Sleep(5 * time.Second)
		r.gets()
		j.mu.Lock()
		j.hang = false
		j.mu.Unlock()
		time.Sleep(8 * time.Second)
		require.Len(t, r.poll(), 30)
		require.NotEmpty(t, s.log.with("yielded nothing for so long"))
	})
}

// One that is far back does not hold up those that are near, and shares no read with them.
func TestNearHistoryDoesNotWaitForFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, j, begin := newSlowReads(t, 60_000, time.Millisecond)
		distant := s.resume(begin, "x")
		time.Sleep(time.Millisecond)
		place := broadcast.MakeID(begin.Epoch(), 57_000)
		var all []*reader
		for range 5 {
			all = append(all, s.resume(place, "x"))
		}
		time.Sleep(6 * time.Second) // two reads
		for _, r := range all {
			require.Len(t, r.poll(), 30)
		}
		distant.gets()
		time.Sleep(time.Minute)
		require.NotEmpty(t, distant.poll())
		require.Zero(t, j.from[0])
		require.LessOrEqual(t, len(j.from), 1+2, "the second is shared by those that came during the first")
		for _, from := range j.from[1:] {
			require.EqualValues(t, 57_000, from)
		}
	})
}

// Reads for those that are far back rest as long as they have read.
func TestFarHistoryIsRationed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, j, begin := newSlowReads(t, 30_000, time.Millisecond)
		for range 110 { // a client that comes each second with an old ID, and stays
			s.resume(begin, "x")
			time.Sleep(time.Second)
		}
		_, entries, _ := j.counted()
		require.LessOrEqual(t, entries, 62_000, "half of what could be read in that time")
		require.Greater(t, entries, 50_000)
	})
}

// Beyond a bound nothing is read: it is a gap at once.
func TestHistoryIsCutOffAtABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, j, begin := newSlowReads(t, 300_000, 0)
		r := s.resume(begin, "x")
		require.Equal(t, "gap", r.poll()[0])
		reads, _, _ := j.counted()
		require.Zero(t, reads)
		edge := broadcast.MakeID(begin.Epoch(), 300_000-60_000)
		r = s.resume(edge, "x")
		r.poll()
		reads, _, _ = j.counted()
		require.Equal(t, 1, reads)
	})
}

// A journal that begins a new epoch between the moment when a subscription is claimed for a read
// and the read itself is a loss, as at any other time.
func TestHistoryOfAnEpochThatHasJustEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		s := newServer(t, engine, nil)
		begin := s.position()
		for range 100 {
			s.publish("x", "old")
		}
		synctest.Wait()
		s.node.Fail(errAway) // so that Run does not read it
		r := s.resume(begin, "x")
		synctest.Wait()
		require.Equal(t, "reading history", s.Stage(r.sub))
		_ = s.ReadHistory(t.Context(), r.sub, func() {
			engine.Recreate()
			s.node.Fail(nil)
			time.Sleep(time.Minute)
			s.publish("x", "new")
		})
		time.Sleep(time.Minute)
		require.Equal(t, []string{"gap", "new"}, r.poll())
	})
}

package broadcast_test

import (
	"context"
	"iter"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// newSlowServer starts a server whose reads can hang.
func newSlowServer(t *testing.T, engine *broadcasttest.Journal) (*server, *slowReads) {
	var reads *slowReads
	s := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal {
		reads = &slowReads{Journal: j.(*broadcasttest.Journal)}
		return reads
	})
	return s, reads
}

func (j *slowReads) hangs(hang bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.hang = hang
}

// polls polls once, with room for so many messages.
func (r *reader) polls(size int, want ...string) {
	r.t.Helper()
	synctest.Wait()
	buf := make([]*broadcast.Message, size)
	n, err := r.sub.Poll(buf)
	require.NoError(r.t, err)
	got := []string{}
	for _, m := range buf[:n] {
		got = append(got, string(m.Data))
	}
	require.Equal(r.t, append([]string{}, want...), got)
}

// While the journal is read on for a subscription, a message in one of its topics wakes it, and
// Poll has nothing to return: it does not wait for the read.
func TestMessageWhileTheJournalIsReadOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, reads := newSlowServer(t, new(broadcasttest.Journal))
		begin := s.position()
		s.publish("x", texts("", 0, 12)...)
		synctest.Wait()
		r := s.resume(begin, "x", "y")
		r.polls(4, texts("", 0, 4)...)
		at := r.sub.Position()
		s.publish("x", texts("", 12, 32)...)
		synctest.Wait()
		reads.hangs(true)
		r.polls(4)
		require.Equal(t, "reading history", s.Stage(r.sub))
		for _, text := range []string{"32", "33"} {
			s.publish("y", text)
			r.polls(4)
			require.Equal(t, at, r.sub.Position())
		}
		r.calls.Store(0)
		reads.hangs(false)
		time.Sleep(time.Minute)
		r.wakes(texts("", 4, 34)...)
		s.publish("y", "34")
		r.wakes("34")
		require.Zero(t, s.Stats().Gaps)
	})
}

// A topic that is added while the journal is read on is resumed after Position, as any.
func TestSetTopicsWhileTheJournalIsReadOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, reads := newSlowServer(t, new(broadcasttest.Journal))
		begin := s.position()
		s.publish("x", texts("x", 0, 40)...)
		s.publish("y", texts("y", 0, 40)...)
		synctest.Wait()
		r := s.resume(begin, "x")
		r.polls(40, texts("x", 0, 40)...) // its history, which goes up to the end
		s.publish("x", texts("x", 40, 60)...)
		synctest.Wait()
		reads.hangs(true)
		r.polls(40)
		require.Equal(t, "reading history", s.Stage(r.sub))
		missed := texts("y", 0, 40)
		missed = missed[r.sub.Position().Seq()-begin.Seq()-40:]
		require.NoError(t, r.sub.(broadcast.TopicSetter).SetTopics([]string{"x", "y"}))
		reads.hangs(false)
		time.Sleep(time.Minute)
		r.gets(append(missed, texts("x", 40, 60)...)...)
	})
}

// A subscription that is to end returns what is pending, and does not wait for the journal.
func TestFinishedOnItsWay(t *testing.T) {
	for _, test := range []struct {
		name    string
		pending string // the topic of what is pending
		want    []string
		reason  string
	}{
		{"overrun after its end", "y", append(texts("", 4, 12), "end"), "what is lost is not its own"},
		{"overrun before its end", "x", []string{"end"}, "it ends where it is, and may resume from there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, new(broadcasttest.Journal), nil)
				begin := s.position()
				s.publish(test.pending, texts("", 0, 12)...)
				synctest.Wait()
				r := s.resume(begin, "x", "y")
				r.polls(4, texts("", 0, 4)...)
				r.sub.(broadcast.Finisher).Finish()
				s.publish("x", texts("", 12, 40)...)
				r.gets(test.want...)
				again := s.resume(r.sub.Position(), "x", "y")
				time.Sleep(time.Second)
				again.gets(texts("", 4+len(test.want)-1, 40)...)
			})
		})
	}
}

// An older value of a Key never comes after a newer one, though the journal is read on from
// before it.
func TestValuesWhileTheJournalIsReadOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, new(broadcasttest.Journal), nil)
		set := func(n int) {
			for range n {
				seq := s.Stats().Position.Seq() + 1
				_, err := s.Publish(t.Context(), broadcast.Message{Topic: "x", Key: "k", Data: []byte(strconv.FormatUint(seq, 10))})
				require.NoError(t, err)
				synctest.Wait()
			}
		}
		begin := s.position()
		set(1)
		s.publish("x", texts("", 0, 14)...)
		synctest.Wait()
		r := s.resume(begin, "x")
		newest, buf := uint64(0), make([]*broadcast.Message, 2)
		poll := func() bool {
			n, err := r.sub.Poll(buf)
			if err != nil {
				require.ErrorIs(t, err, broadcast.ErrGap)
			}
			for _, m := range buf[:n] {
				if m.Key != "" {
					require.GreaterOrEqual(t, m.ID.Seq(), newest, "values")
					newest = m.ID.Seq()
				}
			}
			return n == 0 && err == nil
		}
		_, err := r.sub.Poll(buf[:1]) // a round begins
		require.NoError(t, err)
		for range 8 {
			poll()
		}
		for i := range 3000 {
			set(1)
			if i%100 == 0 {
				poll()
			}
		}
		for range 40 {
			s.publish("x", "late")
			set(1)
		}
		for range 10_000 {
			synctest.Wait()
			if poll() {
				break
			}
		}
	})
}

// holed is a Journal whose Tails, but for the first, lack some entries.
type holed struct {
	*broadcasttest.Journal
	tails    atomic.Int32
	from, to uint64
}

func (j *holed) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	if j.tails.Add(1) == 1 {
		return j.Journal.Tail(ctx, after)
	}
	return func(yield func(broadcast.Message, error) bool) {
		for m, err := range j.Journal.Tail(ctx, after) {
			switch seq := m.ID.Seq(); {
			case seq >= j.from && seq < j.to:
				continue
			case seq == j.to:
				m, err = broadcast.Message{ID: m.ID}, broadcast.ErrGap
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// What the journal lacks of what the rings have as well is no loss.
func TestJournalHasNotGotWhatTheRingsHave(t *testing.T) {
	for _, test := range []struct {
		from, to uint64
		gaps     uint64
		reason   string
	}{
		{30, 32, 0, "the rings have all after 24"},
		{25, 25, 0, "the first that they have"},
		{24, 26, 1, "they have not got 24"},
	} {
		synctest.Test(t, func(t *testing.T) {
			journal := &holed{from: test.from, to: test.to}
			s := newServer(t, new(broadcasttest.Journal), func(j broadcast.Journal) broadcast.Journal {
				journal.Journal = j.(*broadcasttest.Journal)
				return journal
			})
			begin := s.position()
			require.Zero(t, begin.Seq())
			s.publish("x", texts("", 0, 40)...) // 0 has the sequence 1, and the rings have 16
			synctest.Wait()
			r := s.resume(begin, "x")
			time.Sleep(time.Second)
			got := r.poll()
			require.Equal(t, test.gaps, s.Stats().Gaps, test.reason)
			if test.gaps == 0 {
				require.Equal(t, texts("", 0, 40), got, test.reason)
			}
		})
	}
}

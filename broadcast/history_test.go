package broadcast_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// A resume from before what the rings keep is served from the journal.
func TestHistoryIsReadFromTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		log := new(tailLog)
		s := newServer(t, engine, log.wrap)
		begin := s.position()
		var want []string
		for i := range 100 { // of which the rings keep 16 each
			s.publish("x", fmt.Sprint("x", i))
			s.publish("y", fmt.Sprint("y", i))
			s.publish("z", "for nobody")
			want = append(want, fmt.Sprint("x", i), fmt.Sprint("y", i))
		}
		synctest.Wait()
		log.mu.Lock()
		var begins sync.Once // the read, which takes a moment
		log.intercept = func(broadcast.Message) error { begins.Do(func() { time.Sleep(time.Millisecond) }); return nil }
		log.mu.Unlock()
		r := s.resume(begin, "y", "x")
		require.Equal(t, begin, r.sub.Position())
		n, err := r.sub.Poll(make([]*broadcast.Message, 1))
		require.NoError(t, err)
		require.Zero(t, n, "nothing is known before it has been read")
		time.Sleep(time.Second)
		r.wakes(want...)
		require.Equal(t, s.position(), r.sub.Position())
		require.Len(t, log.all(), 2, "one Tail to follow, one to read")
		require.Equal(t, 1, log.running, "which has ended")
		s.publish("x", "live")
		r.wakes("live")

		// Each message in between can be resumed from.
		middle := broadcast.MakeID(begin.Epoch(), begin.Seq()+3*50)
		s.resume(middle, "x").gets(append(texts("x", 50, 100), "live")...)
		s.resume(middle, "never heard of").gets()
		require.Zero(t, s.Stats().Gaps)
	})
}

// Entries that are no valid messages are left out of history, and logged once for a read.
func TestInvalidEntriesInHistoryAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		begin := s.position()
		for range 3 {
			_, err := engine.Append(t.Context(), broadcast.Message{Topic: "x", Type: "ended"}, broadcast.Message{})
			require.NoError(t, err)
		}
		_, err := engine.Append(t.Context(), broadcast.Message{Topic: "x", Data: make([]byte, 1<<20), Binary: true})
		require.NoError(t, err)
		s.publish("x", texts("", 0, 20)...)
		synctest.Wait()
		require.Empty(t, s.log.with("of what clients have missed"))
		s.resume(begin, "x").gets(texts("", 0, 20)...)
		lines := s.log.with("of what clients have missed")
		require.Len(t, lines, 1)
		require.Contains(t, lines[0], "entries=4")
		require.Contains(t, lines[0], `\"ended\" is reserved`)
	})
}

func TestHistoryReadsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		log := new(tailLog)
		s := newServer(t, engine, log.wrap)
		begin := s.position()
		s.publish("x", texts("", 0, 200)...)
		synctest.Wait()
		// Clients that subscribe during a read wait for the next one.
		log.mu.Lock()
		log.intercept = func(broadcast.Message) error { time.Sleep(time.Millisecond); return nil }
		log.mu.Unlock()
		var all []*reader
		for i := range 1000 {
			all = append(all, s.resume(broadcast.MakeID(begin.Epoch(), begin.Seq()+uint64(i%150)), "x"))
			if i%100 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		time.Sleep(time.Minute)
		for i, r := range all {
			r.gets(texts("", i%150, 200)...)
		}
		require.LessOrEqual(t, len(log.all()), 1+4, "Tails")
		require.LessOrEqual(t, log.most, 1+2, "Tails at once")
	})
}

func TestHistoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		begin := s.position()
		s.publish("x", texts("", 0, 16*16+17)...)
		synctest.Wait()
		s.resume(begin, "x").gets(append([]string{"gap"}, texts("", 257, 273)...)...)
		s.resume(broadcast.MakeID(begin.Epoch(), begin.Seq()+1), "x").gets(texts("", 1, 273)...)

		// What the journal has evicted is lost.
		engine.Trim(100)
		s.resume(broadcast.MakeID(begin.Epoch(), begin.Seq()+100), "x").gets(texts("", 100, 273)...)
		s.resume(broadcast.MakeID(begin.Epoch(), begin.Seq()+99), "x").gets(append([]string{"gap"}, texts("", 257, 273)...)...)
	})
}

func TestHistoryIsReadOnWhenRingsMoveOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		log := new(tailLog)
		s := newServer(t, engine, log.wrap)
		begin := s.position()
		s.publish("x", texts("", 0, 50)...)
		synctest.Wait()
		n, rush := 50, 40
		log.mu.Lock()
		log.intercept = func(m broadcast.Message) error {
			if m.ID.Seq() == begin.Seq()+10 && n == 50 { // the rings evict more during the read
				s.publish("x", texts("", n, n+rush)...)
				n += rush
				time.Sleep(time.Second)
			}
			return nil
		}
		log.mu.Unlock()
		r := s.resume(begin, "x")
		time.Sleep(time.Minute)
		r.gets(texts("", 0, 90)...)
		require.Zero(t, s.Stats().Gaps)
		require.Len(t, log.all(), 3, "a second read")
	})
}

func TestHistoryWhileTheEngineIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		log := new(tailLog)
		s := newServer(t, engine, log.wrap)
		begin := s.position()
		s.publish("x", texts("", 0, 50)...)
		synctest.Wait()
		s.node.Fail(errAway)
		r := s.resume(begin, "x")
		time.Sleep(time.Minute)
		r.gets()
		require.Equal(t, begin, r.sub.Position())
		s.node.Fail(nil)
		time.Sleep(time.Minute)
		r.wakes(texts("", 0, 50)...)

		// The read fails in the middle.
		var calls atomic.Int64 // of two reads
		log.mu.Lock()
		log.intercept = func(m broadcast.Message) error {
			if calls.Add(1) == 20 {
				return errors.New("reset by peer")
			}
			return nil
		}
		log.mu.Unlock()
		r = s.resume(begin, "x")
		time.Sleep(time.Minute)
		r.gets(texts("", 0, 50)...)

		// Run ends during the read, and another Run goes on.
		s.node.Hold()
		r = s.resume(begin, "x")
		synctest.Wait()
		closed := s.resume(begin, "x")
		closed.sub.Close()
		require.ErrorIs(t, s.stop(errAway), errAway)
		r.gets()
		s.node.Release()
		s.start()
		time.Sleep(time.Minute)
		r.wakes(texts("", 0, 50)...)
	})
}

func TestHistoryOfAnOldEpochIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		begin := s.position()
		s.publish("x", texts("", 0, 50)...)
		synctest.Wait()
		s.node.Hold()
		r := s.resume(begin, "x")
		synctest.Wait()
		engine.Recreate()
		s.node.Release()
		s.publish("x", "new")
		time.Sleep(time.Minute)
		r.gets("gap", "new")
	})
}

func TestHistoryWithFinishAndSetTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		begin := s.position()
		s.publish("x", texts("", 0, 50)...)
		synctest.Wait()
		r := s.resume(begin, "x")
		synctest.Wait()
		r.sub.(broadcast.Finisher).Finish()
		r.gets(append(texts("", 0, 50), "end")...)

		r = s.resume(begin, "x")
		synctest.Wait()
		change := r.sub.(broadcast.TopicSetter)
		require.NoError(t, change.SetTopics([]string{"y", "x"}))
		synctest.Wait()
		r.gets(texts("", 0, 50)...)

		r = s.resume(begin, "x")
		synctest.Wait()
		n, err := r.sub.Poll(make([]*broadcast.Message, 7))
		require.NoError(t, err)
		require.Equal(t, 7, n)
		s.publish("y", texts("y", 0, 30)...)
		synctest.Wait()
		require.NoError(t, r.sub.(broadcast.TopicSetter).SetTopics([]string{"y", "x"}))
		synctest.Wait()
		r.gets(slices.Concat(texts("", 7, 50), texts("y", 0, 30))...)

		// While history is still to be returned, and while it is being read.
		for _, wait := range []bool{true, false} {
			r = s.resume(begin, "y")
			if wait {
				synctest.Wait()
			}
			require.NoError(t, r.sub.(broadcast.TopicSetter).SetTopics([]string{"x"}))
			synctest.Wait()
			r.gets(texts("", 0, 50)...)
		}
		require.Zero(t, s.Stats().Gaps)
	})
}

// A read is shared, so it may go on past what a subscription had missed. A subscription
// that changes its topics there loses nothing of the new ones.
func TestSetTopicsWhereHistoryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, &broadcasttest.Journal{}, nil)
		begin := s.position()
		s.publish("x", texts("x", 0, 17)...)
		s.publish("y", "y0", "y1")
		s.publish("z", texts("z", 0, 17)...) // up to whose first one is read for both
		synctest.Wait()
		other := s.resume(begin, "z")
		r := s.resume(begin, "x")
		synctest.Wait()
		for returned := 0; returned < 17; { // at once, if one read served both
			n, err := r.sub.Poll(make([]*broadcast.Message, 64))
			require.NoError(t, err)
			require.NotZero(t, n)
			returned += n
		}
		require.NoError(t, r.sub.(broadcast.TopicSetter).SetTopics([]string{"x", "y"}))
		synctest.Wait()
		r.gets("y0", "y1")
		other.gets(texts("z", 0, 17)...)
		require.Zero(t, s.Stats().Gaps)
	})
}

// The position of a subscription that is finished before it has its history is its end,
// not the end of what was read.
func TestFinishBeforeHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(tailLog)
		s := newServer(t, &broadcasttest.Journal{}, log.wrap)
		begin := s.position()
		s.publish("x", texts("", 0, 30)...)
		synctest.Wait()
		log.mu.Lock()
		log.intercept = func(m broadcast.Message) error {
			if m.ID.Seq() == begin.Seq()+5 {
				time.Sleep(time.Second)
			}
			return nil
		}
		log.mu.Unlock()
		r := s.resume(begin, "x")
		synctest.Wait()
		r.sub.(broadcast.Finisher).Finish()
		s.publish("x", texts("", 30, 60)...)
		time.Sleep(time.Minute)
		r.gets(append(texts("", 0, 30), "end")...)
		s.resume(r.sub.Position(), "x").gets(texts("", 30, 60)...)
	})
}

// A read that sees a new epoch before the follower does is not complete.
func TestHistoryThatSeesANewEpochFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		log := new(tailLog)
		s := newServer(t, engine, log.wrap)
		begin := s.position()
		s.publish("x", texts("", 0, 60)...)
		synctest.Wait()
		log.mu.Lock()
		log.intercept = func(m broadcast.Message) error {
			if m.ID.Seq() == begin.Seq()+5 {
				s.node.Hold() // for both, but this one is released first
				engine.Recreate()
				s.node.Release()
			}
			return nil
		}
		log.mu.Unlock()
		r := s.resume(begin, "x")
		time.Sleep(time.Minute)
		got := r.poll()
		require.Equal(t, "gap", got[0], "%v", got)
	})
}

// Clients may subscribe while Run ends and begins again.
func TestHistoryWhileRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, &broadcasttest.Journal{}, nil)
		begin := s.position()
		s.publish("x", texts("", 0, 50)...)
		synctest.Wait()
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for range 50 {
					r := s.resume(begin, "x")
					time.Sleep(time.Millisecond)
					r.sub.Close()
				}
			})
		}
		for range 20 {
			require.ErrorIs(t, s.stop(errAway), errAway)
			s.start()
			time.Sleep(time.Millisecond)
		}
		clients.Wait()
		time.Sleep(time.Second)
		s.resume(begin, "x").gets(texts("", 0, 50)...)
	})
}

// A Tail that panics while history is read is logged, and read again.
func TestHistoryThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(tailLog)
		s := newServer(t, &broadcasttest.Journal{}, log.wrap)
		begin := s.position()
		s.publish("x", texts("", 0, 30)...)
		synctest.Wait()
		var once sync.Once
		log.mu.Lock()
		log.intercept = func(broadcast.Message) error { once.Do(func() { panic("in a Tail") }); return nil }
		log.mu.Unlock()
		r := s.resume(begin, "x")
		r.gets()
		time.Sleep(time.Minute)
		r.wakes(texts("", 0, 30)...)
		require.Len(t, s.log.with("panic in Journal.Tail"), 2, "the panic, and that it is tried again")
	})
}

// While a client that has resumed is still sent what it has missed, the rings may evict what
// follows. The journal has that: it is no gap, as long as the client is on its way.
func TestResumedReaderIsOverrunOnItsWay(t *testing.T) {
	for _, test := range []struct {
		name   string
		missed int // messages; the rings keep 16
		reason string
	}{
		{"from the journal", 100, "its history ends where the rings begin"},
		{"from the rings", 12, "all that it has missed is kept when it comes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, &broadcasttest.Journal{}, nil)
				begin := s.position()
				s.publish("x", texts("", 0, test.missed)...)
				synctest.Wait()
				r := s.resume(begin, "x")
				synctest.Wait()
				n := test.missed
				buf := make([]*broadcast.Message, 10)
				for got := 0; got < n; synctest.Wait() {
					k, err := r.sub.Poll(buf)
					require.NoError(t, err, "%s: after %d of %d", test.reason, got, n)
					for _, m := range buf[:k] {
						require.Equal(t, strconv.Itoa(got), string(m.Data))
						got++
					}
					if n < 220 { // six for each ten that it reads
						s.publish("x", texts("", n, n+6)...)
						n += 6
					}
				}
				r.gets()
				require.Zero(t, s.Stats().Gaps)

				// Now it is one of those that are there: if it does not read, it is too slow.
				s.publish("x", texts("", n, n+20)...)
				synctest.Wait()
				r.gets(append([]string{"gap"}, texts("", n+4, n+20)...)...)
			})
		})
	}
}

// A client that never catches up has a gap in the end, as any that is too slow.
func TestResumedReaderThatIsTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(tailLog)
		s := newServer(t, &broadcasttest.Journal{}, log.wrap)
		begin := s.position()
		s.publish("x", texts("", 0, 100)...)
		synctest.Wait()
		r := s.resume(begin, "x")
		buf, gaps := make([]*broadcast.Message, 1), 0
		for range 2_000 {
			synctest.Wait()
			if _, err := r.sub.Poll(buf); err != nil {
				require.ErrorIs(t, err, broadcast.ErrGap)
				gaps++
			}
			s.publish("x", "another", "one", "more")
		}
		require.NotZero(t, gaps)
		require.LessOrEqual(t, len(log.all()), 1+1+8, "Tails")
	})
}

// A history has no room for all that the rings have as well: that is no loss.
func TestHistoryWithoutRoomForMoreThanItNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, &broadcasttest.Journal{}, nil)
		begin := s.position()
		s.publish("x", texts("", 0, 16*16+16)...) // a history has 16*16, and the rings 16
		synctest.Wait()
		r := s.resume(begin, "x")
		synctest.Wait()
		r.gets(texts("", 0, 16*16+16)...)
		require.Zero(t, s.Stats().Gaps)
	})
}

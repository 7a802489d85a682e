package broadcast_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// tailLog notes where the Tails of a journal begin, and may meddle with them.
type tailLog struct {
	mu      sync.Mutex
	after   []broadcast.ID
	meddle  func(broadcast.Message) error // before an entry is yielded
	running int
	most    int // of those that run at once
}

func (l *tailLog) dress(j broadcast.Journal) broadcast.Journal { return &loggedJournal{j, l} }

func (l *tailLog) all() []broadcast.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.after)
}

type loggedJournal struct {
	broadcast.Journal
	log *tailLog
}

func (j *loggedJournal) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	l := j.log
	l.mu.Lock()
	l.after = append(l.after, after)
	first := len(l.after) == 1
	l.mu.Unlock()
	return func(yield func(broadcast.Message, error) bool) {
		l.mu.Lock()
		l.running++
		l.most = max(l.most, l.running)
		meddle := l.meddle
		l.mu.Unlock()
		defer func() {
			l.mu.Lock()
			l.running--
			l.mu.Unlock()
		}()
		for m, err := range j.Journal.Tail(ctx, after) {
			if meddle != nil && !first {
				if err := meddle(m); err != nil {
					yield(broadcast.Message{}, err)
					return
				}
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

func texts(prefix string, from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}

// A position that the rings have left behind is served from the journal.
func TestBehindTheRings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		log := new(tailLog)
		s := newServer(t, engine, log.dress)
		begin := s.here()
		var want []string
		for i := range 100 { // of which the rings keep 16 each
			s.say("x", fmt.Sprint("x", i))
			s.say("y", fmt.Sprint("y", i))
			s.say("z", "for nobody")
			want = append(want, fmt.Sprint("x", i), fmt.Sprint("y", i))
		}
		synctest.Wait()
		log.mu.Lock()
		var begins sync.Once // the reading, which takes a moment
		log.meddle = func(broadcast.Message) error { begins.Do(func() { time.Sleep(time.Millisecond) }); return nil }
		log.mu.Unlock()
		r := s.from(begin, "y", "x")
		require.Equal(t, begin, r.sub.Position())
		n, err := r.sub.Poll(make([]*broadcast.Message, 1))
		require.NoError(t, err)
		require.Zero(t, n, "nothing is known before it has been read")
		time.Sleep(time.Second)
		r.wakes(want...)
		require.Equal(t, s.here(), r.sub.Position())
		require.Len(t, log.all(), 2, "one Tail to follow, one to read")
		require.Equal(t, 1, log.running, "which has ended")
		s.say("x", "live")
		r.wakes("live")

		// Each place in between is one to resume from.
		middle := broadcast.MakeID(begin.Epoch(), begin.Seq()+3*50)
		s.from(middle, "x").gets(append(texts("x", 50, 100), "live")...)
		s.from(middle, "never heard of").gets()
		require.Zero(t, s.Stats().Gaps)
	})
}

func TestBehindIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		log := new(tailLog)
		s := newServer(t, engine, log.dress)
		begin := s.here()
		s.say("x", texts("", 0, 200)...)
		synctest.Wait()
		// Those that come while a read is on its way wait for the next.
		log.mu.Lock()
		log.meddle = func(broadcast.Message) error { time.Sleep(time.Millisecond); return nil }
		log.mu.Unlock()
		var all []*reader
		for i := range 1000 {
			all = append(all, s.from(broadcast.MakeID(begin.Epoch(), begin.Seq()+uint64(i%150)), "x"))
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

func TestBehindHasBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		begin := s.here()
		s.say("x", texts("", 0, 16*16+17)...)
		synctest.Wait()
		s.from(begin, "x").gets(append([]string{"gap"}, texts("", 257, 273)...)...)
		s.from(broadcast.MakeID(begin.Epoch(), begin.Seq()+1), "x").gets(texts("", 1, 273)...)

		// What the journal has let go of is gone.
		engine.Trim(100)
		s.from(broadcast.MakeID(begin.Epoch(), begin.Seq()+100), "x").gets(texts("", 100, 273)...)
		s.from(broadcast.MakeID(begin.Epoch(), begin.Seq()+99), "x").gets(append([]string{"gap"}, texts("", 257, 273)...)...)
	})
}

func TestBehindWhileMessagesRushBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		log := new(tailLog)
		s := newServer(t, engine, log.dress)
		begin := s.here()
		s.say("x", texts("", 0, 50)...)
		synctest.Wait()
		n, rush := 50, 40
		log.mu.Lock()
		log.meddle = func(m broadcast.Message) error {
			if m.ID.Seq() == begin.Seq()+10 && n == 50 { // the rings move on while they are read up to
				s.say("x", texts("", n, n+rush)...)
				n += rush
				time.Sleep(time.Second)
			}
			return nil
		}
		log.mu.Unlock()
		r := s.from(begin, "x")
		time.Sleep(time.Minute)
		r.gets(texts("", 0, 90)...)
		require.Zero(t, s.Stats().Gaps)
		require.Len(t, log.all(), 3, "it was read on")
	})
}

func TestBehindWhileTheEngineIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		log := new(tailLog)
		s := newServer(t, engine, log.dress)
		begin := s.here()
		s.say("x", texts("", 0, 50)...)
		synctest.Wait()
		s.node.Fail(errAway)
		r := s.from(begin, "x")
		time.Sleep(time.Minute)
		r.gets()
		require.Equal(t, begin, r.sub.Position())
		s.node.Fail(nil)
		time.Sleep(time.Minute)
		r.wakes(texts("", 0, 50)...)

		// It breaks off in the middle.
		calls := 0
		log.mu.Lock()
		log.meddle = func(m broadcast.Message) error {
			if calls++; calls == 20 {
				return errors.New("reset by peer")
			}
			return nil
		}
		log.mu.Unlock()
		r = s.from(begin, "x")
		time.Sleep(time.Minute)
		r.gets(texts("", 0, 50)...)

		// Run ends meanwhile, and another goes on.
		s.node.Hold()
		r = s.from(begin, "x")
		synctest.Wait()
		closed := s.from(begin, "x")
		closed.sub.Close()
		require.ErrorIs(t, s.stop(errAway), errAway)
		r.gets()
		s.node.Release()
		s.start()
		time.Sleep(time.Minute)
		r.wakes(texts("", 0, 50)...)
	})
}

func TestBehindAndAnotherEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		begin := s.here()
		s.say("x", texts("", 0, 50)...)
		synctest.Wait()
		s.node.Hold()
		r := s.from(begin, "x")
		synctest.Wait()
		engine.Recreate()
		s.node.Release()
		s.say("x", "new")
		time.Sleep(time.Minute)
		r.gets("gap", "new")
	})
}

func TestBehindAndTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		begin := s.here()
		s.say("x", texts("", 0, 50)...)
		synctest.Wait()
		r := s.from(begin, "x")
		synctest.Wait()
		r.sub.(broadcast.Finisher).Finish()
		r.gets(append(texts("", 0, 50), "end")...)

		r = s.from(begin, "x")
		synctest.Wait()
		change := r.sub.(broadcast.TopicSetter)
		require.NoError(t, change.SetTopics([]string{"y", "x"}))
		synctest.Wait()
		r.gets(texts("", 0, 50)...)

		r = s.from(begin, "x")
		synctest.Wait()
		n, err := r.sub.Poll(make([]*broadcast.Message, 7))
		require.NoError(t, err)
		require.Equal(t, 7, n)
		s.say("y", texts("y", 0, 30)...)
		synctest.Wait()
		require.NoError(t, r.sub.(broadcast.TopicSetter).SetTopics([]string{"y", "x"}))
		synctest.Wait()
		r.gets(slices.Concat(texts("", 7, 50), texts("y", 0, 30))...)

		// With what was read still to be returned, and while it is being read.
		for _, wait := range []bool{true, false} {
			r = s.from(begin, "y")
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

// slowJournal notes the groups that are appended, each of which takes a while.
type slowJournal struct {
	broadcast.Journal
	takes  time.Duration
	refuse func(broadcast.Message) bool

	mu     sync.Mutex
	groups []int
}

func (j *slowJournal) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	j.mu.Lock()
	j.groups = append(j.groups, len(ms))
	j.mu.Unlock()
	select {
	case <-time.After(j.takes):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if j.refuse != nil && slices.ContainsFunc(ms, j.refuse) {
		return nil, fmt.Errorf("%w: too large for it", broadcast.ErrNotPublished)
	}
	return j.Journal.Append(ctx, ms...)
}

func TestAppendsAreGrouped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowJournal{takes: 10 * time.Millisecond}
		s := newServer(t, &broadcasttest.Journal{}, func(j broadcast.Journal) broadcast.Journal { slow.Journal = j; return slow })
		r := s.from(s.here(), "x")
		r.gets()
		began := time.Now()
		const publishers, each = 700, 5
		var all sync.WaitGroup
		ids := make([][]broadcast.ID, publishers)
		for p := range publishers {
			all.Go(func() {
				for i := range each {
					id, err := s.Publish(t.Context(), broadcast.Message{Topic: "y", Data: fmt.Append(nil, p, i)})
					require.NoError(t, err)
					ids[p] = append(ids[p], id)
				}
			})
		}
		all.Wait()
		require.Less(t, time.Since(began), 20*10*time.Millisecond, "not each by itself")
		require.Greater(t, slices.Max(slow.groups), 300)
		require.LessOrEqual(t, slices.Max(slow.groups), 512)
		seen := make(map[broadcast.ID]bool)
		for _, mine := range ids {
			for i, id := range mine {
				require.False(t, seen[id])
				seen[id] = true
				require.True(t, i == 0 || id.Seq() > mine[i-1].Seq(), "in the order of one goroutine")
			}
		}
		synctest.Wait()
	})
}

// A message that the engine cannot take does not stand in the way of the others.
func TestAppendOfOneThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowJournal{takes: 10 * time.Millisecond, refuse: func(m broadcast.Message) bool { return string(m.Data) == "bad" }}
		s := newServer(t, &broadcasttest.Journal{}, func(j broadcast.Journal) broadcast.Journal { slow.Journal = j; return slow })
		var all sync.WaitGroup
		publish := func(text string, want error) {
			all.Go(func() {
				_, err := s.Publish(t.Context(), broadcast.Message{Topic: "x", Data: []byte(text)})
				require.ErrorIs(t, err, want)
			})
		}
		publish("first", nil)
		synctest.Wait()
		for i := range 5 {
			publish(fmt.Sprint(i), nil)
			publish("bad", broadcast.ErrNotPublished)
		}
		all.Wait()
		synctest.Wait()
		require.EqualValues(t, 6, s.Stats().Position.Seq())
	})
}

func TestAppendAndContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowJournal{takes: time.Hour}
		s := newServer(t, &broadcasttest.Journal{}, func(j broadcast.Journal) broadcast.Journal { slow.Journal = j; return slow })
		publish := func(after time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			began := time.Now()
			_, err := s.Publish(ctx, broadcast.Message{Topic: "x", Data: []byte("x")})
			require.Equal(t, after, time.Since(began))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			return err
		}
		var all sync.WaitGroup
		for range 2 { // as many as go at once
			all.Go(func() { require.NotErrorIs(t, publish(time.Minute), broadcast.ErrNotPublished, "it is on its way") })
			synctest.Wait()
		}
		all.Go(func() { require.ErrorIs(t, publish(time.Second), broadcast.ErrNotPublished, "it never was") })
		all.Go(func() { require.NotErrorIs(t, publish(2*time.Minute), broadcast.ErrNotPublished) })
		all.Wait()
		synctest.Wait()
		require.Equal(t, []int{1, 1, 1}, slow.groups, "a group is given up when all of it have")
	})
}

func TestAppendThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowJournal{refuse: func(broadcast.Message) bool { panic("in an engine") }}
		s := newServer(t, &broadcasttest.Journal{}, func(j broadcast.Journal) broadcast.Journal { slow.Journal = j; return slow })
		_, err := s.Publish(t.Context(), broadcast.Message{Topic: "x"})
		require.ErrorContains(t, err, "in an engine")
		require.NotErrorIs(t, err, broadcast.ErrNotPublished)
	})
}

// One that asks for other topics when it has just got what it missed is somewhere within
// what was read for others as well.
func TestBehindAndOtherTopicsAtTheEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, &broadcasttest.Journal{}, nil)
		begin := s.here()
		s.say("x", texts("x", 0, 17)...)
		s.say("y", "y0", "y1")
		s.say("z", texts("z", 0, 17)...) // up to whose first one is read for both
		synctest.Wait()
		other := s.from(begin, "z")
		r := s.from(begin, "x")
		synctest.Wait()
		n, err := r.sub.Poll(make([]*broadcast.Message, 64))
		require.NoError(t, err)
		require.Equal(t, 17, n)
		require.NoError(t, r.sub.(broadcast.TopicSetter).SetTopics([]string{"x", "y"}))
		synctest.Wait()
		r.gets("y0", "y1")
		other.gets(texts("z", 0, 17)...)
		require.Zero(t, s.Stats().Gaps)
	})
}

// One that is to end before it has its history resumes behind its end, and not behind
// what was read.
func TestBehindAndAnEarlyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(tailLog)
		s := newServer(t, &broadcasttest.Journal{}, log.dress)
		begin := s.here()
		s.say("x", texts("", 0, 30)...)
		synctest.Wait()
		log.mu.Lock()
		log.meddle = func(m broadcast.Message) error {
			if m.ID.Seq() == begin.Seq()+5 {
				time.Sleep(time.Second)
			}
			return nil
		}
		log.mu.Unlock()
		r := s.from(begin, "x")
		synctest.Wait()
		r.sub.(broadcast.Finisher).Finish()
		s.say("x", texts("", 30, 60)...)
		time.Sleep(time.Minute)
		r.gets(append(texts("", 0, 30), "end")...)
		s.from(r.sub.Position(), "x").gets(texts("", 30, 60)...)
	})
}

// A Tail that sees another epoch before the follower does has not read all.
func TestBehindAndAnEpochThatComesEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		log := new(tailLog)
		s := newServer(t, engine, log.dress)
		begin := s.here()
		s.say("x", texts("", 0, 60)...)
		synctest.Wait()
		log.mu.Lock()
		log.meddle = func(m broadcast.Message) error {
			if m.ID.Seq() == begin.Seq()+5 {
				s.node.Hold() // for both, but this one is let go of first
				engine.Recreate()
				s.node.Release()
			}
			return nil
		}
		log.mu.Unlock()
		r := s.from(begin, "x")
		time.Sleep(time.Minute)
		got := r.comes()
		require.Equal(t, "gap", got[0], "%v", got)
	})
}

// While Run ends and begins again, clients go on to come.
func TestBehindWhileRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, &broadcasttest.Journal{}, nil)
		begin := s.here()
		s.say("x", texts("", 0, 50)...)
		synctest.Wait()
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for range 50 {
					r := s.from(begin, "x")
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
		s.from(begin, "x").gets(texts("", 0, 50)...)
	})
}

// An engine that refuses everybody is not asked for each message.
func TestAppendsThatAreAllRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowJournal{takes: 5 * time.Second, refuse: func(broadcast.Message) bool { return true }}
		s := newServer(t, &broadcasttest.Journal{}, func(j broadcast.Journal) broadcast.Journal { slow.Journal = j; return slow })
		began := time.Now()
		var all sync.WaitGroup
		for range 600 {
			all.Go(func() {
				_, err := s.Publish(t.Context(), broadcast.Message{Topic: "x"})
				require.ErrorIs(t, err, broadcast.ErrNotPublished)
			})
		}
		all.Wait()
		require.LessOrEqual(t, time.Since(began), time.Minute)
	})
}

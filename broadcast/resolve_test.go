package broadcast_test

import (
	"context"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// counted counts the calls of Bounds and of Tail.
type counted struct {
	broadcast.Journal
	bounds, tails atomic.Int64
}

func (c *counted) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	c.bounds.Add(1)
	return c.Journal.Bounds(ctx)
}

func (c *counted) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	c.tails.Add(1)
	return c.Journal.Tail(ctx, after)
}

func TestNothingIsDecidedUntilTheEngineAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a := newServer(t, engine, nil)
		a.publish("x", "0", "1")
		count := &counted{}
		b := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal { count.Journal = j; return count })
		b.node.Fail(errAway)
		ahead := a.publish("x", "2", "3")

		known := b.resume(broadcast.MakeID(ahead.Epoch(), 1), "x")
		known.gets("1")
		var waiting, lost, future []*reader
		for range 20 {
			waiting = append(waiting, b.resume(ahead, "x"))
			lost = append(lost, b.resume(other(ahead), "x"))
			future = append(future, b.resume(broadcast.MakeID(ahead.Epoch(), ahead.Seq()+7), "x"))
		}
		for range 5 {
			for _, r := range append(append(waiting[:20:20], lost...), future...) {
				before := r.sub.Position()
				r.gets()
				require.Equal(t, before, r.sub.Position(), "nothing is known about it")
			}
			time.Sleep(time.Minute)
		}
		require.Zero(t, b.Stats().Gaps)
		require.Equal(t, 61, b.Stats().Subscriptions)

		count.bounds.Store(0)
		b.node.Fail(nil)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.LessOrEqual(t, count.bounds.Load(), int64(33), "calls of Bounds: one a second, however many wait")
		known.wakes("2", "3")
		for i := range waiting {
			waiting[i].gets()
			require.Equal(t, ahead, waiting[i].sub.Position())
			lost[i].wakes("gap", "0", "1", "2", "3")
			future[i].wakes("gap")
		}
		a.publish("x", "then")
		for i := range waiting {
			waiting[i].wakes("then")
			lost[i].wakes("then")
			future[i].wakes("then")
		}
	})
}

func TestSubscribeBeforeTheJournalIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a := newServer(t, engine, nil)
		seen := a.publish("x", "0", "1")
		a.publish("x", "2")
		b := newStoppedServer(t, engine, nil)
		b.node.Fail(errAway)
		b.start()
		page := b.position()
		require.EqualValues(t, 1, page.Epoch(), "the reserved epoch, where the journal's is not known")
		fresh, resumed, lost, old := b.resume(broadcast.ID{}, "x"), b.resume(seen, "x"), b.resume(page, "x"), b.resume(other(seen), "x")
		require.EqualValues(t, 1, fresh.sub.Position().Epoch())
		again := fresh.sub.Position()
		for range 3 {
			for _, r := range []*reader{fresh, resumed, lost, old} {
				r.gets()
			}
			time.Sleep(time.Minute)
		}
		require.Equal(t, seen, resumed.sub.Position())
		require.Zero(t, b.Stats().Position)

		b.node.Fail(nil)
		time.Sleep(time.Minute)
		resumed.wakes("2")
		lost.wakes("gap", "0", "1", "2")
		old.wakes("gap", "0", "1", "2")
		for _, text := range fresh.poll() {
			require.Equal(t, "gap", text, "a fresh subscription gets nothing that was published before")
		}
		require.Equal(t, a.position(), b.position())
		require.Equal(t, a.position(), fresh.sub.Position())
		a.publish("x", "then")
		for _, r := range []*reader{fresh, resumed, lost, old} {
			r.wakes("then")
		}
		b.resume(again, "x").gets("gap", "0", "1", "2", "then")
	})
}

// A message that is published after Subscribe arrives or is a gap, even if the Hub does
// not know its journal yet.
func TestPublishBeforeTheJournalIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newStoppedServer(t, engine, nil)
		s.publish("x", "before")
		fresh := s.resume(broadcast.ID{}, "x")
		fresh.gets()
		s.publish("x", "mine")
		s.start()
		got := fresh.poll()
		require.NotEmpty(t, got, "neither the message nor a gap")
		require.Subset(t, []string{"gap", "mine"}, got)
		s.publish("x", "then")
		fresh.gets("then")
	})
}

func TestPositionOfAnEpochThatTheTailHasStillToEnter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		a.publish("x", "old")
		synctest.Wait()
		b.node.Hold()
		engine.Recreate()
		first := a.publish("x", "0")
		newest := a.publish("x", "1")
		// They come from a server that has entered the new epoch.
		client, fresh := b.resume(first, "x", "y"), b.resume(broadcast.ID{}, "x")
		future := b.resume(broadcast.MakeID(first.Epoch(), 1<<40), "x")
		for range 3 {
			client.gets()
			fresh.gets()
			require.Equal(t, first, client.sub.Position())
			time.Sleep(4 * time.Second)
		}
		future.poll()
		b.node.Release()
		client.wakes("1")
		fresh.wakes("gap", "0", "1")
		require.Equal(t, newest, client.sub.Position())
		time.Sleep(4 * time.Second)
		require.Contains(t, future.poll(), "gap")
		a.publish("x", "then")
		for _, r := range []*reader{client, fresh, future} {
			r.wakes("then")
		}
	})
}

// stalled is a Journal that delays the answers of Bounds.
type stalled struct {
	broadcast.Journal
	on    atomic.Bool
	leave chan struct{}
}

func (s *stalled) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	oldest, newest, err = s.Journal.Bounds(ctx)
	if s.on.Load() {
		select {
		case <-s.leave:
		case <-ctx.Done():
		}
	}
	return oldest, newest, err
}

// An answer about an epoch that the tail has left since is not used: the engine is asked
// again.
func TestAnswerOfAnotherEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a := newServer(t, engine, nil)
		stall := &stalled{leave: make(chan struct{})}
		b := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal { stall.Journal = j; return stall })
		b.node.Hold()
		ahead := a.publish("x", "0")
		stall.on.Store(true)
		client := b.resume(ahead, "x")
		client.gets()
		engine.Recreate()
		b.node.Release()
		client.gets()
		stall.on.Store(false)
		close(stall.leave)
		client.wakes("gap")
		a.publish("x", "then")
		client.wakes("then")
	})
}

// gated is a Journal that returns from the first Bounds, and begins the second, when a test
// says so.
type gated struct {
	broadcast.Journal
	calls         atomic.Int64
	first, second chan struct{}
}

func (g *gated) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	switch g.calls.Add(1) {
	case 1:
		defer func() { <-g.first }()
	case 2:
		<-g.second
	}
	return g.Journal.Bounds(ctx)
}

// An answer is not used either if the Hub has entered its first epoch meanwhile.
func TestAnswerOfAnotherEpochThanTheFirst(t *testing.T) {
	for range 20 { // the follower or the resolver may be the first
		synctest.Test(t, func(t *testing.T) {
			engine := &broadcasttest.Journal{}
			a := newServer(t, engine, nil)
			gate := &gated{first: make(chan struct{}), second: make(chan struct{})}
			b := newStoppedServer(t, engine, func(j broadcast.Journal) broadcast.Journal { gate.Journal = j; return gate })
			client := b.resume(a.publish("x", "0"), "x")
			b.node.Fail(errAway) // so that both try again
			gate.calls.Store(-1 << 20)
			b.start()
			time.Sleep(time.Minute)
			client.gets()
			gate.calls.Store(0)
			b.node.Fail(nil)
			time.Sleep(time.Minute)
			engine.Recreate()
			close(gate.second)
			time.Sleep(time.Minute)
			client.poll()
			close(gate.first)
			time.Sleep(time.Minute)
			require.NotZero(t, client.calls.Load(), "calls of Notify")
			require.Contains(t, client.poll(), "gap")
			a.publish("x", "then")
			client.gets("then")
		})
	}
}

// panicky is a Journal whose next Bounds panics once it is armed.
type panicky struct {
	*broadcasttest.Journal
	armed atomic.Bool
}

func (p *panicky) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	if p.armed.Swap(false) {
		panic("in Bounds")
	}
	return p.Journal.Bounds(ctx)
}

func TestBoundsThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var journal *panicky
		s := newServer(t, new(broadcasttest.Journal), func(j broadcast.Journal) broadcast.Journal {
			journal = &panicky{Journal: j.(*broadcasttest.Journal)}
			return journal
		})
		s.publish("a", "1")
		synctest.Wait()
		journal.armed.Store(true)
		r := s.resume(other(s.position()), "a")
		time.Sleep(time.Minute)
		buf := make([]*broadcast.Message, 8)
		n, err := r.sub.Poll(buf)
		require.ErrorIs(t, err, broadcast.ErrGap, "it is asked again")
		require.Equal(t, 1, n)
		require.Len(t, s.log.with("panic"), 1)
	})
}

// A subscription that is closed while the engine is away does not stay among those that
// wait.
func TestClosedSubscriptionsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, new(broadcasttest.Journal), nil)
		s.node.Fail(errAway)
		for range 100 {
			r := s.resume(broadcast.MakeID(9, 9), "a")
			time.Sleep(3 * time.Second)
			require.NoError(t, r.sub.Close())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.ErrorIs(t, s.stop(nil), context.Canceled)
		require.Zero(t, s.Waiting())
	})
}

// An answer of the engine places a subscription once, even if SetTopics has asked for it
// again meanwhile.
func TestSetTopicsWhileTheEngineIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		stall := &stalled{leave: make(chan struct{})}
		s := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal { stall.Journal = j; return stall })
		s.publish("x", "0")
		s.publish("y", "1")
		synctest.Wait()
		stall.on.Store(true)
		client := s.resume(other(s.position()), "x")
		client.gets()
		require.NoError(t, client.sub.(broadcast.TopicSetter).SetTopics([]string{"x", "y"}))
		client.gets()
		stall.leave <- struct{}{}
		client.wakes("gap", "0", "1")
		close(stall.leave)
		client.gets()
		require.EqualValues(t, 1, s.Stats().Gaps)
	})
}

// A stream that begins now, and Position, are not before what the Hub's own Publish returned,
// even in an epoch that the tail has still to enter, or has just entered.
func TestNowIsAfterOwnPublishesOfANewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		a.publish("x", "old")
		synctest.Wait()
		b.node.Hold()
		engine.Recreate()
		for _, text := range []string{"0", "1", "2"} {
			b.publish("x", text)
		}
		own := b.publish("x", "mine")
		require.Equal(t, own, b.position())
		fresh, page := b.resume(broadcast.ID{}, "x"), b.resume(b.position(), "x")
		require.Equal(t, own, fresh.sub.Position())
		state := b.subscribe(broadcast.SubscribeOptions{Topics: []string{"x"}, Last: 1})
		fresh.gets()
		state.gets()
		b.node.Delay(time.Second) // so that the tail is in the epoch, and not there yet
		b.node.Release()
		synctest.Wait()
		require.Equal(t, own.Epoch(), b.Stats().Position.Epoch())
		require.Equal(t, own, b.position())
		entered := b.resume(broadcast.ID{}, "x")
		time.Sleep(time.Minute)
		b.publish("x", "then")
		time.Sleep(time.Minute)
		fresh.wakes("then")
		page.gets("then")
		entered.gets("then")
		state.wakes("gap", "0", "1", "2", "mine", "then")
	})
}

// Once the engine has answered an Append or the tail of a server, whatever else waits to reach
// it goes on at once: the tail, the streams that only the engine can place, and history.
func TestAnswerOfTheEngineEndsPauses(t *testing.T) {
	for range 5 { // the pauses are random
		synctest.Test(t, func(t *testing.T) {
			engine := &broadcasttest.Journal{}
			a, b := newServer(t, engine, nil), newServer(t, engine, nil)
			begin := a.position()
			a.publish("x", texts("", 0, 40)...)
			synctest.Wait()
			live := b.resume(broadcast.ID{}, "x")
			live.gets()
			b.node.Fail(errAway)
			ahead := a.publish("x", "ahead")
			waiting, reading := b.resume(ahead, "x"), b.resume(begin, "x")
			time.Sleep(10 * time.Minute)
			b.node.Fail(nil)
			synctest.Wait()
			live.gets()
			b.publish("x", "mine")
			synctest.Wait()
			live.wakes("ahead", "mine")
			waiting.gets("mine")
			got := reading.poll()
			require.NotEmpty(t, got)
			require.Equal(t, "mine", got[len(got)-1])
		})
	}
}

// An engine that answers Appends and refuses all else is not asked without end.
func TestAnswersThatDoNotHelpDoNotEndAllPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := &deaf{}
		s := newStoppedServer(t, new(broadcasttest.Journal), func(j broadcast.Journal) broadcast.Journal { count.Journal = j; return count })
		s.start()
		for range 10_000 {
			s.publish("x", "")
			time.Sleep(10 * time.Millisecond)
		}
		require.Less(t, count.bounds.Load(), int64(100), "in 100 s, at random about 30: without pauses it would be 10,000")
	})
}

// deaf is a Journal that answers nothing but Append.
type deaf struct {
	broadcast.Journal
	bounds atomic.Int64
}

func (d *deaf) Bounds(context.Context) (oldest, newest broadcast.ID, err error) {
	d.bounds.Add(1)
	return oldest, newest, errAway
}

// A stream without a position that comes before its server knows the journal gets a gap only
// if something of its topics may have been published since.
func TestFreshStreamBeforeTheJournalIsKnown(t *testing.T) {
	for _, test := range []struct {
		name   string
		before []string // topics of what the journal has
		during []string // and gets while the stream waits
		want   []string
	}{
		{name: "an empty journal", want: []string{"then"}},
		{name: "other topics", before: []string{"y", "z"}, during: []string{"y"}, want: []string{"then"}},
		{name: "older entries that nobody can tell from newer ones", before: []string{"x"}, want: []string{"gap", "then"}},
		{name: "an entry in the meantime", during: []string{"y", "x"}, want: []string{"gap", "then"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			engine := &broadcasttest.Journal{}
			a := newServer(t, engine, nil)
			for _, topic := range test.before {
				a.publish(topic, "before")
			}
			b := newStoppedServer(t, engine, nil)
			b.node.Fail(errAway)
			b.start()
			fresh := b.resume(broadcast.ID{}, "x")
			fresh.gets()
			time.Sleep(time.Minute)
			for _, topic := range test.during {
				a.publish(topic, "during")
			}
			b.node.Fail(nil)
			time.Sleep(time.Minute)
			synctest.Wait()
			require.NotZero(t, fresh.calls.Load(), test.name)
			require.Equal(t, "placed", b.Stage(fresh.sub), test.name)
			a.publish("x", "then")
			fresh.gets(test.want...)
		})
	}
}

// A stream without a position that comes while its server starts waits a moment for the engine,
// and gets no gap: what is now is known then.
func TestFreshStreamWaitsForTheFirstAnswer(t *testing.T) {
	for _, last := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			engine := &broadcasttest.Journal{}
			a := newServer(t, engine, nil)
			a.publish("x", "before")
			b := newStoppedServer(t, engine, nil)
			b.node.Fail(errAway)
			b.start()
			synctest.Wait()
			time.AfterFunc(300*time.Millisecond, func() { b.node.Fail(nil) })
			began := time.Now()
			fresh := b.subscribe(broadcast.SubscribeOptions{Topics: []string{"x"}, Last: last})
			require.Less(t, time.Since(began), 2*time.Second)
			got := fresh.poll()
			require.NotContains(t, got, "gap")
			a.publish("x", "then")
			fresh.wakes("then")

			// It does not wait for long, nor longer than its context, nor to resume.
			c := newStoppedServer(t, engine, nil)
			c.node.Fail(errAway)
			c.start()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.Subscribe(ctx, broadcast.SubscribeOptions{Topics: []string{"x"}})
			require.ErrorIs(t, err, context.DeadlineExceeded)
			began = time.Now()
			c.resume(a.position(), "x").gets()
			require.Zero(t, time.Since(began))
			c.resume(broadcast.ID{}, "x").gets()
			require.Equal(t, 2*time.Second, time.Since(began))
			go func() {
				time.Sleep(time.Second)
				c.Close()
			}()
			_, err = c.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"x"}})
			require.ErrorIs(t, err, broadcast.ErrClosed)
		})
	}
}

// SetTopics does not place such a stream without a gap either: what was published since is
// not known for the topics that it had, nor for the new ones.
func TestSetTopicsBeforeTheJournalIsKnown(t *testing.T) {
	for _, topics := range [][]string{{"x"}, {"x", "y"}, {"y"}} {
		synctest.Test(t, func(t *testing.T) {
			engine := &broadcasttest.Journal{}
			a := newServer(t, engine, nil)
			b := newStoppedServer(t, engine, nil)
			b.node.Fail(errAway)
			b.start()
			fresh := b.resume(broadcast.ID{}, "x")
			fresh.gets()
			for _, topic := range topics {
				a.publish(topic, "missed")
			}
			b.node.Fail(nil)
			time.Sleep(time.Minute)
			require.NoError(t, fresh.sub.(broadcast.TopicSetter).SetTopics(topics))
			fresh.gets("gap")
			a.publish(topics[0], "then")
			fresh.gets("then")
		})
	}
}

// stale is a Journal whose Bounds answers with what is set instead.
type stale struct {
	*broadcasttest.Journal
	answer atomic.Pointer[broadcast.ID]
}

func (s *stale) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	if id := s.answer.Load(); id != nil {
		return broadcast.MakeID(id.Epoch(), 1), *id, nil
	}
	return s.Journal.Bounds(ctx)
}

// A client that is ahead of its server is not sent back by a stale answer of the engine: neither
// by one that is behind the client, nor by one of another epoch than the Hub's.
func TestClientAheadOfItsServerAndStaleAnswers(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(ahead broadcast.ID) broadcast.ID
		lasts  time.Duration
		loses  bool // the engine loses its newest entry
		want   []string
	}{
		{"a leader that was isolated", func(ahead broadcast.ID) broadcast.ID { return broadcast.MakeID(ahead.Epoch(), 2) }, 2 * time.Second, false, []string{"then"}},
		{"another epoch", other, 10 * time.Second, false, []string{"then"}},
		{"a loss before its epoch", func(ahead broadcast.ID) broadcast.ID { return broadcast.MakeID(ahead.Epoch(), 2) }, 2 * time.Second, true, []string{"gap", "then"}},
		{"a loss and another epoch", other, 2 * time.Second, true, []string{"gap", "then"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			engine := new(broadcasttest.Journal)
			a := newServer(t, engine, nil)
			a.publish("x", "0", "1")
			j := new(stale)
			b := newServer(t, engine, func(inner broadcast.Journal) broadcast.Journal {
				j.Journal = inner.(*broadcasttest.Journal)
				return j
			})
			b.node.Hold()
			ahead := a.publish("x", "2", "3")
			answer := test.answer(ahead)
			j.answer.Store(&answer)
			r := b.resume(ahead, "x")
			for end := time.Now().Add(test.lasts); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				require.Empty(t, r.poll(), test.name)
				require.Equal(t, ahead, r.sub.Position(), test.name)
			}
			if test.loses {
				engine.LoseTail(1)
			}
			j.answer.Store(nil)
			b.node.Release()
			time.Sleep(3 * time.Second)
			a.publish("x", "then")
			got := r.poll()
			require.Equal(t, test.want[0], got[0], "%s: %v", test.name, got)
			require.Equal(t, "then", got[len(got)-1], test.name)
			require.NotEqual(t, "gap", slices.Concat(got[1:], []string{""})[0], test.name)
			require.LessOrEqual(t, b.Stats().Gaps, uint64(1), test.name)
		})
	}
}

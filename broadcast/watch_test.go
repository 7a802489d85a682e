package broadcast_test

import (
	"context"
	"errors"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// faulty is a Journal whose calls can be replaced, each for itself.
type faulty struct {
	*broadcasttest.Journal
	mu    sync.Mutex
	hung  bool  // nothing answers; running Tails yield nothing
	tail  error // of Tail
	tails int
}

func (f *faulty) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *faulty) isHung() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hung
}

func (f *faulty) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	if f.isHung() {
		<-ctx.Done()
		return oldest, newest, ctx.Err()
	}
	return f.Journal.Bounds(ctx)
}

func (f *faulty) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	if f.isHung() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return f.Journal.Append(ctx, ms...)
}

func (f *faulty) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return func(yield func(broadcast.Message, error) bool) {
		f.mu.Lock()
		f.tails++
		err := f.tail
		f.mu.Unlock()
		if err != nil {
			yield(broadcast.Message{}, err)
			return
		}
		for m, err := range f.Journal.Tail(ctx, after) {
			if f.isHung() {
				<-ctx.Done()
				yield(broadcast.Message{}, ctx.Err())
				return
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

func newFaultyServer(t *testing.T, engine *broadcasttest.Journal) (*server, *faulty) {
	f := new(faulty)
	return newServer(t, engine, func(j broadcast.Journal) broadcast.Journal {
		f.Journal = j.(*broadcasttest.Journal)
		return f
	}), f
}

// settles waits until Following is what it should be, and returns how long that took.
func (s *server) settles(following bool) time.Duration {
	s.t.Helper()
	began := time.Now()
	for s.Stats().Following != following {
		require.Less(s.t, time.Since(began), time.Minute, "Following is %v", !following)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
	}
	return time.Since(began)
}

// Following says that the engine has answered within the last seconds, whether it refuses
// connections, does not answer, or keeps its entries from the tail.
func TestFollowing(t *testing.T) {
	for name, fault := range map[string]func(s *server, f *faulty, on bool){
		"refuses": func(s *server, _ *faulty, on bool) {
			s.node.Fail(nil)
			if on {
				s.node.Fail(errAway)
			}
		},
		"hangs": func(_ *server, f *faulty, on bool) { f.set(func() { f.hung = on }) },
		"refuses tails": func(s *server, f *faulty, on bool) {
			f.set(func() {
				if f.tail = nil; on {
					f.tail = errAway
				}
			})
			s.node.Restart()
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, f := newFaultyServer(t, new(broadcasttest.Journal))
			require.True(t, s.Stats().Following, name)
			time.Sleep(time.Hour)
			require.True(t, s.Stats().Following, "%s: a quiet log", name)
			fault(s, f, true)
			require.LessOrEqual(t, s.settles(false), 6*time.Second, name)
			for range 600 {
				time.Sleep(time.Second)
				require.False(t, s.Stats().Following, name)
			}
			fault(s, f, false)
			require.LessOrEqual(t, s.settles(true), 10*time.Second, name)
			x := s.resume(broadcast.ID{}, "x")
			s.publish("x", "then")
			x.gets("then")
		})
	}
}

// A Hub says how far it is behind its journal.
func TestBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		b.node.Hold()
		a.publish("x", texts("", 0, 7)...)
		time.Sleep(2 * time.Second)
		stats := b.Stats()
		require.EqualValues(t, 7, stats.Behind)
		require.Greater(t, stats.Lag, time.Second-1)
		require.Less(t, stats.Lag, 2*time.Second+1)
		for range 8 {
			time.Sleep(time.Second)
			a.publish("x", "")
		}
		time.Sleep(time.Second)
		stats = b.Stats()
		require.EqualValues(t, 15, stats.Behind)
		require.Greater(t, stats.Lag, 10*time.Second-1)
		require.False(t, stats.Following)

		// A tail that is slow, and yields, is behind and followed.
		b.node.Delay(4 * time.Second)
		b.node.Release()
		for range 40 {
			a.publish("x", "")
			time.Sleep(time.Second)
		}
		stats = b.Stats()
		require.True(t, stats.Following)
		require.InDelta(t, 4, stats.Behind, 1)
		require.Greater(t, stats.Lag, 2*time.Second)
		require.Less(t, stats.Lag, 5*time.Second)
		b.node.Delay(0)
		time.Sleep(time.Second)
		require.Zero(t, b.Stats().Behind)
		require.Zero(t, b.Stats().Lag)
		require.Zero(t, new(broadcast.Hub).Stats().Behind)
	})
}

// The lag stays right, but for a tenth of it, while a tail is stuck for long.
func TestLagOfALongStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		b.node.Hold()
		for range 1000 {
			a.publish("x", "")
			time.Sleep(time.Second)
		}
		require.InDelta(t, 1000, b.Stats().Lag.Seconds(), 1)
		require.EqualValues(t, 1000, b.Stats().Behind)
		b.node.Delay(500 * time.Second)
		b.node.Release()
		time.Sleep(10 * time.Second)
		require.Greater(t, b.Stats().Lag, 490*time.Second)
		require.Less(t, b.Stats().Lag, 550*time.Second)
	})
}

// deafTail is a Journal whose first Tails yield nothing once they have been left behind, as
// those on an old master whose replica has taken over.
type deafTail struct {
	*broadcasttest.Journal
	mu   sync.Mutex
	left int // how many Tails will be stuck
}

func (d *deafTail) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	d.mu.Lock()
	stuck := d.left > 0
	d.left--
	d.mu.Unlock()
	if !stuck {
		return d.Journal.Tail(ctx, after)
	}
	return func(yield func(broadcast.Message, error) bool) {
		<-ctx.Done()
		yield(broadcast.Message{}, ctx.Err())
	}
}

// A tail that yields nothing of what the engine has, while that answers, is opened anew: of the
// same epoch and of another, heard of by a Publish of this Hub or not.
func TestStuckTailIsOpenedAnew(t *testing.T) {
	for _, test := range []struct {
		name     string
		stuck    int
		recreate bool
		other    bool // another server publishes
		within   time.Duration
	}{
		{name: "own messages", stuck: 1, within: 6 * time.Second},
		{name: "others' messages", stuck: 1, other: true, within: 6 * time.Second},
		{name: "own, of another epoch", stuck: 1, recreate: true, within: 6 * time.Second},
		{name: "others', of another epoch", stuck: 1, recreate: true, other: true, within: 6 * time.Second},
		{name: "twice", stuck: 2, within: 13 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			engine := new(broadcasttest.Journal)
			a := newServer(t, engine, nil)
			b := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal {
				return &deafTail{Journal: j.(*broadcasttest.Journal), left: test.stuck}
			})
			x := b.resume(broadcast.ID{}, "x")
			x.gets()
			time.Sleep(time.Minute)
			require.True(t, b.Stats().Following, "%s: on a quiet log a stuck tail is not known", test.name)
			if test.recreate {
				engine.Recreate()
			}
			by := b
			if test.other {
				by = a
			}
			by.publish("x", "0")
			began := time.Now()
			for x.calls.Load() == 0 && time.Since(began) < time.Minute {
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
			}
			require.LessOrEqual(t, time.Since(began), test.within, test.name)
			got := x.poll()
			require.Equal(t, "0", got[len(got)-1], test.name)
			require.Equal(t, test.recreate, got[0] == "gap", test.name)
			require.Len(t, b.log.with("yielded nothing"), test.stuck, test.name)
			b.settles(true)
		})
	}
}

// A busy log, or a tail that is slow and yields, is no reason to open the tail anew.
func TestTailThatYieldsIsNotOpenedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newFaultyServer(t, new(broadcasttest.Journal))
		s.node.Delay(2 * time.Second)
		for range 1000 {
			s.publish("x", "")
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 1, f.tails)
		require.True(t, s.Stats().Following)
	})
}

// A Hub whose tail never comes back while its journal takes messages ends its streams, which
// would be silent and believed healthy, and refuses others until the tail is back.
func TestDeafHubEndsItsStreams(t *testing.T) {
	for name, fault := range map[string]func(*server, *faulty){
		"tails fail":  func(_ *server, f *faulty) { f.tail = errors.New("unusable") },
		"tails hang":  func(s *server, _ *faulty) { s.node.Hold() },
		"never heard": nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			engine := new(broadcasttest.Journal)
			s, f := newFaultyServer(t, engine)
			if fault == nil {
				_ = s.stop(nil)
				fault = func(_ *server, f *faulty) { f.tail = errors.New("unusable") }
				s.start()
			}
			s.publish("x", "kept")
			live, slow := s.resume(broadcast.ID{}, "x"), s.resume(broadcast.MakeID(s.position().Epoch(), 0), "x")
			live.gets()
			f.set(func() { fault(s, f) })
			engine.Restart()
			time.Sleep(time.Hour)
			live.gets()
			require.NoError(t, s.Ready(t.Context()), "%s: nothing is missed on a quiet log", name)
			require.Empty(t, s.log.with("level=ERROR"), name)

			s.publish("x", "unheard")
			time.Sleep(10 * time.Second)
			live.gets()
			require.False(t, s.Stats().Following, name)
			require.EqualValues(t, 1, s.Stats().Behind, name)
			time.Sleep(10 * time.Second)
			live.wakes("end")
			slow.gets("kept", "end")
			require.Len(t, s.log.with("level=ERROR"), 1, name)
			require.Contains(t, s.log.with("level=ERROR")[0], "deaf", name)
			_, err := s.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"x"}})
			require.ErrorIs(t, err, broadcast.ErrNotFollowing, name)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			require.ErrorIs(t, s.Ready(ctx), broadcast.ErrNotFollowing, name)
			require.ErrorIs(t, s.Ready(ctx), context.DeadlineExceeded, name)
			cancel()

			f.set(func() { f.tail = nil })
			s.node.Release()
			require.NoError(t, s.Ready(t.Context()), name)
			s.resume(live.sub.Position(), "x").gets("unheard")
			s.settles(true)
			require.Len(t, s.log.with("no longer deaf"), 1, name)
		})
	}
}

// While the engine is away streams stay as they are, even if it has something for them.
func TestStreamsStayWhileTheEngineIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		x := b.resume(broadcast.ID{}, "x")
		b.node.Hold()
		a.publish("x", "0")
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 1, b.Stats().Behind)
		b.node.Fail(errAway)
		time.Sleep(time.Hour)
		x.gets()
		require.NoError(t, b.Ready(t.Context()))
		b.node.Fail(nil)
		b.node.Release()
		time.Sleep(time.Second * 5)
		x.wakes("0")
	})
}

// Ready waits until the Hub has what its journal had when Run began.
func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, new(broadcast.Hub).Ready(ended), "in memory")
		require.ErrorContains(t, (&broadcast.Hub{Keep: -1}).Ready(ended), "Keep")

		engine := new(broadcasttest.Journal)
		a := newServer(t, engine, nil)
		require.NoError(t, a.Ready(ended))
		a.publish("x", texts("", 0, 10)...)
		b := newStoppedServer(t, engine, nil)
		require.ErrorContains(t, b.Ready(ended), "go hub.Run(ctx)")
		require.ErrorIs(t, b.Ready(ended), context.Canceled)
		b.node.Fail(errAway)
		b.node.Hold()
		b.start()
		time.Sleep(time.Minute)
		require.ErrorContains(t, b.Ready(ended), "has not answered")
		ready := make(chan error, 1)
		go func() { ready <- b.Ready(t.Context()) }()
		b.node.Fail(nil)
		time.Sleep(5 * time.Second)
		require.Empty(t, ready)
		require.ErrorContains(t, b.Ready(ended), "10 entries behind")
		b.node.Release()
		synctest.Wait()
		require.NoError(t, <-ready)
		require.NoError(t, b.Ready(ended))

		b.node.Fail(errAway)
		time.Sleep(time.Hour)
		require.NoError(t, b.Ready(ended), "while the engine is away")
		require.ErrorIs(t, b.stop(nil), context.Canceled)
		require.ErrorContains(t, b.Ready(ended), "go hub.Run(ctx)")
		go func() { ready <- b.Ready(t.Context()) }()
		synctest.Wait()
		require.NoError(t, b.Close())
		require.ErrorIs(t, <-ready, broadcast.ErrClosed)
	})
}

// The engine is asked once a second, with a deadline, and by one goroutine.
func TestEngineIsAskedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := &counted{}
		newServer(t, new(broadcasttest.Journal), func(j broadcast.Journal) broadcast.Journal { count.Journal = j; return count })
		time.Sleep(100 * time.Second)
		require.InDelta(t, 100, count.bounds.Load(), 3)
	})
}

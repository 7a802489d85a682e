package broadcast_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// altered is a Journal whose answers a test replaces.
type altered struct {
	*broadcasttest.Journal
	mu     sync.Mutex
	bounds func(ctx context.Context, oldest, newest broadcast.ID) (broadcast.ID, broadcast.ID, error)
	append func([]broadcast.ID) []broadcast.ID
}

func (a *altered) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	a.mu.Lock()
	alter := a.bounds
	a.mu.Unlock()
	oldest, newest, err = a.Journal.Bounds(ctx)
	if alter != nil && err == nil {
		return alter(ctx, oldest, newest)
	}
	return oldest, newest, err
}

func (a *altered) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	a.mu.Lock()
	alter := a.append
	a.mu.Unlock()
	ids, err := a.Journal.Append(ctx, ms...)
	if alter != nil && err == nil {
		ids = alter(ids)
	}
	return ids, err
}

func (a *altered) alterBounds(f func(ctx context.Context, oldest, newest broadcast.ID) (broadcast.ID, broadcast.ID, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bounds = f
}

func (a *altered) alterAppend(f func([]broadcast.ID) []broadcast.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.append = f
}

func newAlteredServer(t *testing.T, engine *broadcasttest.Journal) (*server, *altered) {
	a := new(altered)
	return newServer(t, engine, func(j broadcast.Journal) broadcast.Journal {
		a.Journal = j.(*broadcasttest.Journal)
		return a
	}), a
}

func hangs(ctx context.Context, _, _ broadcast.ID) (oldest, newest broadcast.ID, err error) {
	<-ctx.Done()
	return oldest, newest, ctx.Err()
}

// isReady reports whether the Hub is ready now.
func (s *server) isReady() bool {
	ended, cancel := context.WithCancel(s.t.Context())
	cancel()
	return s.Ready(ended) == nil
}

// What Publish was answered shows that the tail is stuck, also if Bounds does not answer and
// messages are few.
func TestDeafHubWhoseBoundsHangs(t *testing.T) {
	for _, every := range []time.Duration{time.Second, 8 * time.Second, 25 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			s, a := newAlteredServer(t, new(broadcasttest.Journal))
			x := s.resume(broadcast.ID{}, "x")
			x.gets()
			a.alterBounds(hangs)
			s.node.Hold()
			for range 5*time.Minute/every + 1 {
				s.publish("x", "unheard")
				time.Sleep(every)
			}
			x.gets("end")
			for range 100 {
				s.publish("x", "unheard")
				time.Sleep(time.Second)
				require.False(t, s.Stats().Following, every)
				require.False(t, s.isReady(), every)
			}
			require.Len(t, s.log.with("is deaf"), 1, every)
		})
	}
}

// A tail is not stuck while nothing of the engine answers, even if a call of Bounds lasts for
// as long.
func TestHubIsNotDeafAfterALongAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newAlteredServer(t, new(broadcasttest.Journal))
		x := s.resume(broadcast.ID{}, "x")
		x.gets()
		s.node.Hold()
		time.Sleep(500 * time.Millisecond)
		s.publish("x", "0")
		time.Sleep(time.Second)
		a.alterBounds(func(_ context.Context, oldest, newest broadcast.ID) (broadcast.ID, broadcast.ID, error) {
			time.Sleep(20 * time.Second)
			return oldest, newest, nil
		})
		time.Sleep(20*time.Second + 500*time.Millisecond)
		s.node.Release()
		time.Sleep(time.Second)
		x.gets("0")
		require.Empty(t, s.log.with("is deaf"))
	})
}

// A Hub stays deaf as long as Publish is given IDs of an epoch that the tail does not enter,
// whatever Bounds answers.
func TestHubStaysDeafWhilePublishGoesElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newAlteredServer(t, new(broadcasttest.Journal))
		x := s.resume(broadcast.ID{}, "x")
		x.gets()
		seq := uint64(0)
		a.alterAppend(func(ids []broadcast.ID) []broadcast.ID {
			for i := range ids {
				seq++
				ids[i] = broadcast.MakeID(77, seq)
			}
			return ids
		})
		_, before, err := s.node.Bounds(t.Context())
		require.NoError(t, err)
		a.alterBounds(func(context.Context, broadcast.ID, broadcast.ID) (broadcast.ID, broadcast.ID, error) {
			return before, before, nil
		})
		s.node.Hold()
		for i := range 600 {
			s.publish("x", "elsewhere")
			time.Sleep(time.Second)
			if i > 20 {
				require.False(t, s.isReady(), i)
				require.False(t, s.Stats().Following, i)
			}
		}
		x.gets("end")

		// Where nothing more goes there the engine's answers count again.
		require.Empty(t, s.log.with("no longer deaf"))
		time.Sleep(65 * time.Second)
		require.True(t, s.isReady())
		require.Len(t, s.log.with("no longer deaf"), 1)
	})
}

// An engine of which some calls answer with another epoch than the tail's, and some do not, is
// somewhere else. A single such answer ends no streams.
func TestHubWhoseEngineContradictsItself(t *testing.T) {
	for name, elsewhere := range map[string]func(call int) bool{
		"once":                  func(call int) bool { return call == 5 },
		"every other call":      func(call int) bool { return call%2 == 0 },
		"all but a few answers": func(call int) bool { return call%7 != 0 },
	} {
		synctest.Test(t, func(t *testing.T) {
			s, a := newAlteredServer(t, new(broadcasttest.Journal))
			x := s.resume(broadcast.ID{}, "x")
			x.gets()
			call := 0
			a.alterBounds(func(_ context.Context, oldest, newest broadcast.ID) (broadcast.ID, broadcast.ID, error) {
				if call++; elsewhere(call) {
					return other(oldest), other(newest), nil
				}
				return oldest, newest, nil
			})
			time.Sleep(time.Minute)
			if name == "once" {
				x.gets()
				require.True(t, s.Stats().Following, name)
			} else {
				x.gets("end")
				require.False(t, s.isReady(), name)
			}
		})
	}
}

// A Hub begins at the newest entry at the latest, also if its Journal's oldest is of another
// moment or another epoch.
func TestHubBeginsUpToTheNewest(t *testing.T) {
	for name, alter := range map[string]func(oldest broadcast.ID) broadcast.ID{
		"another moment": func(oldest broadcast.ID) broadcast.ID { return broadcast.MakeID(oldest.Epoch(), 1000) },
		"another epoch":  func(oldest broadcast.ID) broadcast.ID { return broadcast.MakeID(oldest.Epoch()+1, 1000) },
	} {
		synctest.Test(t, func(t *testing.T) {
			a := new(altered)
			a.alterBounds(func(_ context.Context, oldest, newest broadcast.ID) (broadcast.ID, broadcast.ID, error) {
				a.alterBounds(nil)
				return alter(oldest), newest, nil
			})
			s := newServer(t, new(broadcasttest.Journal), func(j broadcast.Journal) broadcast.Journal {
				a.Journal = j.(*broadcasttest.Journal)
				return a
			})
			x := s.resume(broadcast.ID{}, "x")
			x.gets()
			s.publish("x", "0")
			x.wakes("0")
			require.True(t, s.isReady(), name)
		})
	}
}

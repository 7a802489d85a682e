package natsjournal_test

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// A tail that goes over to a new epoch says up to where the entries of the old one are still
// there, and nothing where it cannot be sure of any.
func TestSurvivors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		change   func(e *engine, older string)
		survived int // of 20 entries, of which the older disk has 10
	}{
		{"the engine has lost the newest", func(e *engine, older string) { e.replace(older) }, 10},
		{"others have been added instead", func(e *engine, older string) {
			e.stop()
			e.restore(older)
			e.elsewhere(func(js jetstream.JetStream) {
				subject := stream(e.t, js).CachedInfo().Config.Subjects[0]
				for range 15 {
					_, err := js.Publish(e.t.Context(), subject, nil)
					require.NoError(e.t, err)
				}
			})
			e.start()
		}, 10},
		{"an epoch without a loss", func(e *engine, _ string) {
			edit(e.t, admin(e.t, e.connect()), func(c *jetstream.StreamConfig) { c.Subjects = []string{"fanfare.1"} })
		}, 20},
		{"a purge, and then a new epoch", func(e *engine, _ string) {
			js := admin(e.t, e.connect())
			require.NoError(e.t, stream(e.t, js).Purge(e.t.Context()))
			edit(e.t, js, func(c *jetstream.StreamConfig) { c.Subjects = []string{"fanfare.1"} })
		}, 0},
		{"a new stream", func(e *engine, _ string) {
			js := admin(e.t, e.connect())
			require.NoError(e.t, js.DeleteStream(e.t.Context(), "fanfare"))
		}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := startEngine(t)
			j := e.journal()
			f := follow(t, j, broadcast.ID{})
			ids := add(t, j, numbers(0, 10)...)
			f.yields(ids, numbers(0, 10)...)
			e.stop()
			older := e.backup()
			e.start()
			ids = append(ids, add(t, j, numbers(10, 20)...)...)
			f.yields(ids[10:], numbers(10, 20)...)
			test.change(e, older)
			require.NoError(t, j.Conn.ForceReconnect()) // the tail looks at the stream
			for {
				survived := broadcast.ID{}
				m, err := f.next()
				if err == nil || m.ID.Epoch() == ids[0].Epoch() {
					continue // what a purge has left out, in the old epoch
				}
				if epoch, ok := errors.AsType[*broadcast.EpochError](err); ok {
					survived = epoch.Survived
				}
				if test.survived == 0 {
					require.Zero(t, survived)
				} else {
					require.Equal(t, ids[test.survived-1], survived)
				}
				return
			}
		})
	}
}

// replace replaces the disk of a running engine.
func (e *engine) replace(older string) {
	e.t.Helper()
	e.stop()
	e.restore(older)
	e.start()
}

// Of many entries that are gone, the newest survivor is known roughly: never one that is gone.
func TestSurvivorsOfALargeLoss(t *testing.T) {
	t.Parallel()
	const kept, lost = 3000, 5000
	e := startEngine(t)
	j := e.journal()
	f := follow(t, j, broadcast.ID{})
	appendMany(t, j, kept)
	for range kept {
		_, err := f.next()
		require.NoError(t, err)
	}
	e.stop()
	older := e.backup()
	e.start()
	add(t, j, "the connection is back")
	appendMany(t, j, lost)
	for range lost + 1 {
		_, err := f.next()
		require.NoError(t, err)
	}
	e.replace(older)
	_, survived := f.loss()
	require.LessOrEqual(t, survived.Seq(), uint64(kept))
	require.Greater(t, survived.Seq(), uint64(kept/2))
}

func appendMany(t *testing.T, j broadcast.Journal, n int) {
	t.Helper()
	for range n / 1000 {
		_, err := j.Append(within(t), make([]broadcast.Message, 1000)...)
		require.NoError(t, err)
	}
}

// After an engine that has lost its newest entries, a client gets a gap, then what is new, and
// no survivor a second time: neither on its stream nor when it resumes with an old ID.
func TestSurvivorsAreNotSentTwice(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	hub := &broadcast.Hub{Journal: e.journal(), Logger: slog.New(slog.DiscardHandler)}
	run(t, hub)
	client := subscribe(t, hub, broadcast.ID{})
	other := e.journal()
	ids := add(t, other, numbers(0, 10)...)
	require.Equal(t, numbers(0, 10), client.receives("9"))
	e.stop()
	older := e.backup()
	e.start()
	add(t, other, numbers(10, 20)...)
	require.Equal(t, numbers(10, 20), client.receives("19"))

	e.replace(older)
	add(t, other, "after")
	require.Equal(t, []string{"gap", "after"}, client.receives("after"))

	require.Equal(t, []string{"gap", "7", "8", "9", "after"}, subscribe(t, hub, ids[6]).receives("after"))
}

// subscribed is a subscription, and a channel that has an element after its Notify.
type subscribed struct {
	broadcast.Subscription
	t        *testing.T
	notified chan struct{}
}

func subscribe(t *testing.T, b broadcast.Broadcaster, after broadcast.ID) *subscribed {
	t.Helper()
	s := &subscribed{t: t, notified: make(chan struct{}, 1)}
	var err error
	s.Subscription, err = b.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"t"}, After: after, Notify: func() {
		select {
		case s.notified <- struct{}{}:
		default:
		}
	}})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// receives returns what comes up to a message, gaps included.
func (s *subscribed) receives(last string) (all []string) {
	s.t.Helper()
	buf := make([]*broadcast.Message, 4)
	for ctx := within(s.t); ; {
		n, err := s.Poll(buf)
		if err != nil {
			require.ErrorIs(s.t, err, broadcast.ErrGap)
			all = append(all, "gap")
		}
		for _, m := range buf[:n] {
			all = append(all, string(m.Data))
		}
		switch {
		case len(all) > 0 && all[len(all)-1] == last:
			return all
		case n > 0 || err != nil:
			continue
		}
		select {
		case <-s.notified:
		case <-ctx.Done():
			require.Fail(s.t, "the last message did not come", "%q after %q", last, all)
		}
	}
}

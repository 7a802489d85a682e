package broadcast_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

func TestAheadOfTheTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		a.publish("x", "0")
		synctest.Wait()
		b.node.Hold()
		a.publish("x", "1")
		second := a.publish("x", "2")
		lagging := b.resume(broadcast.ID{}, "x") // from the newest that b knows of
		ahead, quiet := b.resume(second, "x"), b.resume(second, "y", "z")
		for range 3 {
			for _, r := range []*reader{ahead, quiet} {
				r.gets()
				require.Equal(t, second, r.sub.Position(), "Position never goes back")
			}
			time.Sleep(time.Minute)
		}
		b.node.Release()
		synctest.Wait()
		b.node.Hold()
		ahead.gets()
		quiet.gets()
		require.Equal(t, second, ahead.sub.Position())
		third := a.publish("x", "3")
		ahead.gets()
		require.Equal(t, second, ahead.sub.Position())
		b.node.Release()
		ahead.wakes("3")
		quiet.gets()
		require.Equal(t, third, ahead.sub.Position())
		require.Equal(t, third, quiet.sub.Position())
		lagging.gets("1", "2", "3")
		require.Zero(t, b.Stats().Gaps)
	})
}

// What is evicted while the tail is on its way to a client's position is a loss only if it
// follows that position.
func TestAheadOfTheTailAndOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		b.node.Hold()
		var ids []broadcast.ID
		for i := range 20 {
			ids = append(ids, a.publish("x", fmt.Sprint(i)))
		}
		fine, overrun := b.resume(ids[3], "x"), b.resume(ids[2], "x")
		fine.gets()
		overrun.gets()
		b.node.Release()
		var want []string
		for i := 4; i < 20; i++ {
			want = append(want, fmt.Sprint(i))
		}
		fine.gets(want...)
		overrun.gets(append([]string{"gap"}, want...)...)
	})
}

// Now is the newest ID that this server knows of, even if its tail lags.
func TestNowIsTheNewestThatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		b.node.Hold()
		a.publish("x", "0")
		mine := b.publish("x", "mine")
		require.Equal(t, mine, b.position())
		fresh, page := b.resume(broadcast.ID{}, "x"), b.resume(b.position(), "x")
		for _, r := range []*reader{fresh, page} {
			require.Equal(t, mine, r.sub.Position())
			r.gets()
			require.Equal(t, mine, r.sub.Position())
		}
		b.node.Release()
		a.publish("x", "then")
		fresh.wakes("then")
		page.wakes("then")
	})
}

func TestPositionsThatTheLogDoesNotHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		a.publish("x", "0", "1")
		synctest.Wait()
		b.node.Hold()
		newest := a.publish("x", "2", "3")
		for _, test := range []struct {
			name   string
			after  broadcast.ID
			want   []string
			reason string
		}{
			{"future", broadcast.MakeID(newest.Epoch(), newest.Seq()+1), []string{"then"}, "from now on, where now is the engine's, not this server's"},
			{"far future", broadcast.MakeID(newest.Epoch(), 1<<63), []string{"then"}, "from now on, where now is the engine's, not this server's"},
			{"other epoch", other(newest), []string{"0", "1", "2", "3", "then"}, "all that is kept"},
			{"not known", broadcast.MakeID(1, 0), []string{"0", "1", "2", "3", "then"}, "all that is kept"},
		} {
			t.Log(test.name, test.reason)
			b.node.Hold()
			r := b.resume(test.after, "x")
			require.Equal(t, test.after, r.sub.Position(), "until something is known about it")
			got := r.poll()
			require.NotEmpty(t, got, test.name)
			require.Equal(t, "gap", got[0], test.name)
			if test.after.Epoch() == newest.Epoch() {
				require.Equal(t, newest, r.sub.Position(), "%s: now, for none of what is on its way will be returned", test.name)
			}
			b.node.Release()
			synctest.Wait()
			got = append(got, r.poll()...)
			if test.name == "far future" || test.name == "future" {
				require.Equal(t, []string{"gap"}, got, test.name)
			} else {
				require.Equal(t, append([]string{"gap"}, test.want[:4]...), got, test.name)
			}
			r.sub.Close()
		}
		last := b.resume(broadcast.MakeID(newest.Epoch(), 1<<63), "x")
		last.gets("gap")
		a.publish("x", "then")
		last.wakes("then")
	})
}

// With Last, messages that this server has not read yet follow those that it has.
func TestLastAheadOfTheTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		s.publish("x", "0", "1")
		synctest.Wait()
		s.node.Hold()
		s.publish("x", "2")
		s.publish("y", "3")
		r := s.subscribe(broadcast.SubscribeOptions{Topics: []string{"x"}, Last: 1})
		begin := r.sub.Position()
		r.gets("1")
		require.Equal(t, begin, r.sub.Position(), "after the Last messages from the start")
		s.node.Release()
		r.wakes("2")
		s.publish("x", "then")
		r.wakes("then")
		s.resume(begin, "x").gets("2", "then")

		// Before the journal is known, it is like a resume from an unknown position.
		late := newStoppedServer(t, engine, nil)
		last := late.subscribe(broadcast.SubscribeOptions{Topics: []string{"x", "y"}, Last: 1})
		last.gets()
		late.start()
		got := last.poll()
		require.Equal(t, "gap", got[0])
		synctest.Wait()
		require.Equal(t, []string{"gap", "0", "1", "2", "3", "then"}, append(got, last.poll()...))
		s.publish("y", "again")
		last.wakes("again")
	})
}

// A subscription that has returned all up to its end returns ErrClosed, even if its ring is
// overrun later.
func TestLossAfterTheEndIsNotReported(t *testing.T) {
	hub := broadcast.Hub{Keep: 4}
	sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}})
	require.NoError(t, err)
	defer sub.Close()
	buf := make([]*broadcast.Message, 8)
	_, err = sub.Poll(buf)
	require.NoError(t, err)
	sub.(broadcast.Finisher).Finish()
	for range 10 {
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a"})
		require.NoError(t, err)
	}
	_, err = sub.Poll(buf)
	require.ErrorIs(t, err, broadcast.ErrClosed, "what was lost came after the end")
}

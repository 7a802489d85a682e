package broadcast_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// skips skips, and checks what that returns.
func (r *reader) skips(to broadcast.ID) {
	r.t.Helper()
	require.Equal(r.t, to, r.sub.(broadcast.Skipper).Skip())
	require.Equal(r.t, to, r.sub.Position())
}

// Skip lets a stream go on from now: in memory, with one topic and with several.
func TestSkipGoesOnFromNow(t *testing.T) {
	for _, topics := range [][]string{{"x"}, {"x", "y"}} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{t: t, Hub: &broadcast.Hub{Keep: 4}}
			begin := s.position()
			r, fresh, ends := s.resume(begin, topics...), s.subscribe(broadcast.SubscribeOptions{Topics: topics, Last: 3}), s.resume(begin, topics...)
			s.publish("x", texts("", 0, 3)...)
			ends.sub.(broadcast.Finisher).Finish()
			end := s.position()
			s.publish("x", texts("", 3, 9)...)
			r.skips(s.position())
			r.gets()
			fresh.skips(s.position())
			ends.skips(end)
			ends.gets("end")
			s.publish("x", "then")
			r.wakes("then")
			fresh.gets("then")
			require.Zero(t, s.Stats().Gaps)

			// After a gap the messages that came with it are the caller's to drop.
			lost := s.resume(begin, topics...)
			n, err := lost.sub.Poll(make([]*broadcast.Message, 2))
			require.ErrorIs(t, err, broadcast.ErrGap)
			require.Equal(t, 2, n)
			lost.skips(s.position())
			lost.gets()
			require.NoError(t, lost.sub.Close())
			require.Equal(t, s.position(), lost.sub.(broadcast.Skipper).Skip(), "closed")
			require.Equal(t, []string{"end"}, lost.poll())
		})
	}
}

// With a journal, now is what the engine has, not what the tail has yielded: nothing older
// follows, not even of an epoch that the tail has just entered.
func TestSkipGoesOnFromWhatTheEngineHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		begin := a.position()
		a.publish("x", texts("", 0, 60)...)
		synctest.Wait()
		b.node.Hold()
		newest := a.publish("x", "60")
		time.Sleep(time.Second)
		r := b.resume(begin, "x")
		r.gets()
		b.node.Release()
		synctest.Wait()
		r.skips(newest)
		r.gets() // not its history either

		// The new epoch's old entries come to the tail after the gap.
		b.node.Hold()
		b.node.Delay(time.Second)
		engine.LoseTail(3)
		last, err := engine.Append(t.Context(), broadcast.Message{Topic: "x", Data: []byte("new")})
		require.NoError(t, err)
		other := b.resume(broadcast.MakeID(5, 5), "x") // of a log that nobody knows
		b.node.Release()
		for range 200 {
			time.Sleep(10 * time.Millisecond)
			if _, err := other.sub.Poll(make([]*broadcast.Message, 1)); err != nil {
				break
			}
		}
		other.skips(last[0])
		time.Sleep(5 * time.Second)
		other.gets()
		a.publish("x", "then")
		time.Sleep(2 * time.Second)
		other.gets("then")
	})
}

// A stream that begins just after its server has entered an epoch begins at what the engine
// has, not where the tail is.
func TestNowOfANewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		s := newServer(t, engine, nil)
		s.publish("x", texts("", 0, 10)...)
		synctest.Wait()
		s.node.Delay(time.Second)
		engine.LoseTail(2)
		last, err := engine.Append(t.Context(), broadcast.Message{Topic: "x", Data: []byte("old")})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, last[0], s.position())
		r := s.resume(broadcast.ID{}, "x")
		time.Sleep(5 * time.Second)
		r.gets()
		require.Zero(t, s.Stats().Behind)
	})
}

package broadcast_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// lapse lets the server's tail lose what is published meanwhile.
func (s *server) lapse(engine *broadcasttest.Journal, topic string, texts ...string) {
	synctest.Wait()
	s.node.Hold()
	for _, text := range texts {
		_, err := engine.Append(s.t.Context(), broadcast.Message{Topic: topic, Data: []byte(text)})
		require.NoError(s.t, err)
	}
	engine.Trim(1 << 20)
	s.node.Release()
	synctest.Wait()
}

// What was kept before a loss in the tail comes first, then the gap, then the rest: to a stream
// that has not read it yet, and to one that resumes from before it.
func TestWhatWasKeptBeforeALossComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		s := newServer(t, engine, nil)
		begin := s.position()
		slow, both, quiet := s.resume(begin, "x"), s.resume(begin, "x", "y"), s.resume(begin, "q", "r")
		part := s.resume(begin, "x", "y")
		s.publish("x", "5", "6")
		s.publish("y", "7")
		s.publish("x", "8")
		kept := s.publish("y", "9")
		synctest.Wait()
		n, err := part.sub.Poll(make([]*broadcast.Message, 2))
		require.NoError(t, err)
		require.Equal(t, 2, n)
		ends := s.resume(begin, "x")
		ends.sub.(broadcast.Finisher).Finish()
		s.lapse(engine, "x", texts("lost", 0, 20)...)
		s.publish("x", "96")
		s.publish("y", "97")
		synctest.Wait()

		slow.gets("5", "6", "8", "gap", "96")
		both.gets("5", "6", "7", "8", "9", "gap", "96", "97")
		part.gets("7", "8", "9", "gap", "96", "97")
		quiet.gets("gap")
		ends.gets("5", "6", "8", "end")
		late := s.resume(begin, "x", "y")
		late.gets("5", "6", "7", "8", "9", "gap", "96", "97")
		s.resume(kept, "x").gets("gap", "96")
		within := broadcast.MakeID(kept.Epoch(), kept.Seq()+7)
		s.resume(within, "x").gets("gap", "96")
		s.resume(broadcast.MakeID(kept.Epoch(), kept.Seq()+20), "x").gets("96")
		finished := s.resume(begin, "y")
		finished.sub.(broadcast.Finisher).Finish()
		finished.gets("7", "9", "gap", "97", "end")

		// The gap says where it is.
		again := s.resume(begin, "x")
		synctest.Wait()
		buf := make([]*broadcast.Message, 8)
		n, err = again.sub.Poll(buf)
		require.NoError(t, err)
		require.Equal(t, 3, n)
		require.Equal(t, kept.Seq()-1, again.sub.Position().Seq(), "the position of the last message")
		n, err = again.sub.Poll(buf)
		var gap *broadcast.GapError
		require.ErrorAs(t, err, &gap)
		require.Nil(t, gap.Topics)
		require.Equal(t, 1, n)
		require.Equal(t, buf[0].ID.Seq()-1, gap.ID.Seq())
	})
}

// Of several losses each is reported in its place.
func TestSeveralLosses(t *testing.T) {
	for _, losses := range []int{2, 5, 40} {
		synctest.Test(t, func(t *testing.T) {
			engine := new(broadcasttest.Journal)
			s := newStoppedServer(t, engine, nil)
			s.Keep = 256
			s.start()
			synctest.Wait()
			begin := s.position()
			slow, live := s.resume(begin, "x"), s.resume(begin, "x")
			var want []string
			for i := range losses {
				s.publish("x", fmt.Sprint(i))
				s.lapse(engine, "x", "lost", "lost")
				want = append(want, fmt.Sprint(i), "gap")
				live.gets(fmt.Sprint(i), "gap")
			}
			s.publish("x", "then")
			want = append(want, "then")
			if losses > 16 { // of these the Hub has forgotten the oldest, and what was kept before them
				want = slices.Concat([]string{"gap"}, want[len(want)-1-2*16:])
			}
			slow.gets(want...)
			s.resume(begin, "x").gets(want...)
			live.gets("then")
		})
	}
}

// A topic that changes its readers around a loss: what is new to a stream is resumed after
// its position, in the same order.
func TestSetTopicsAroundALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		s := newServer(t, engine, nil)
		r := s.resume(s.position(), "x")
		s.publish("x", "x0")
		s.publish("y", "y0")
		s.lapse(engine, "y", "lost")
		s.publish("y", "y1")
		synctest.Wait()
		require.NoError(t, r.sub.(broadcast.TopicSetter).SetTopics([]string{"y", "x"}))
		r.gets("x0", "y0", "gap", "y1")
	})
}

// A finished subscription gets a gap for what was lost before its end, however much has been
// lost since.
func TestHolesBeforeAndAfterAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		s := newServer(t, engine, nil)
		x := s.resume(broadcast.ID{}, "x")
		x.gets()
		s.lapse(engine, "x", "lost")
		x.sub.(broadcast.Finisher).Finish()
		for range 20 {
			s.lapse(engine, "x", "lost")
		}
		x.gets("gap", "end")
	})
}

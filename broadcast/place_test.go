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
			time.Sleep(4 * time.Second)
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
			if test.after.Epoch() == newest.Epoch() {
				r.gets()                    // the engine's answer may be stale: it is asked again
				time.Sleep(4 * time.Second) // for so long
			}
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
		time.Sleep(4 * time.Second)
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

// In memory a subscription is placed by Subscribe and live after its first Poll.
func TestStagesInMemory(t *testing.T) {
	var hub broadcast.Hub
	for name, after := range map[string]broadcast.ID{
		"from now on":      {},
		"unknown position": broadcast.MakeID(1, 0),
		"other epoch":      broadcast.MakeID(7, 7),
	} {
		sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}, After: after})
		require.NoError(t, err)
		require.Equal(t, "placed", hub.Stage(sub), name)
		sub.Poll(make([]*broadcast.Message, 1))
		require.Equal(t, "live", hub.Stage(sub), name)
		require.NoError(t, sub.Close())
		require.Equal(t, "ended", hub.Stage(sub), name)
	}
}

// A loss leaves a live subscription live. A new epoch places it anew.
func TestStagesOfALiveSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		r := b.resume(broadcast.ID{}, "x")
		r.gets()
		require.Equal(t, "live", b.Stage(r.sub))
		b.node.Hold()
		a.publish("x", "0", "1")
		engine.Trim(1)
		b.node.Release()
		synctest.Wait()
		require.Equal(t, "live", b.Stage(r.sub))
		r.gets("gap", "1")

		require.NoError(t, r.sub.(broadcast.TopicSetter).SetTopics([]string{"x", "y"}))
		require.Equal(t, "live", b.Stage(r.sub), "other topics begin after Position")

		engine.Recreate()
		synctest.Wait()
		time.Sleep(time.Minute)
		require.Equal(t, "placed", b.Stage(r.sub))
		r.wakes("gap")
		require.Equal(t, "live", b.Stage(r.sub))
	})
}

// A position that this server cannot place waits for the engine.
func TestStagesOfAnUnknownPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		b.node.Fail(errAway)
		ahead := a.publish("x", "0")
		resumed, closed := b.resume(ahead, "x"), b.resume(ahead, "x")
		resumed.gets()
		require.Equal(t, "waiting for the engine", b.Stage(resumed.sub))
		require.NoError(t, closed.sub.Close())
		b.node.Fail(nil)
		time.Sleep(time.Minute)
		require.Equal(t, "placed", b.Stage(resumed.sub))
		require.Equal(t, "ended", b.Stage(closed.sub), "an answer that comes later changes nothing")
		resumed.gets()
		require.Equal(t, "live", b.Stage(resumed.sub))
	})
}

// A position from before what the rings keep is placed once its history has been read, and
// live once the history has been returned.
func TestStagesOfAnOverrunPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, &broadcasttest.Journal{}, nil)
		begin := s.position()
		s.publish("x", texts("", 0, 40)...)
		synctest.Wait()
		s.node.Hold()
		r := s.resume(begin, "x")
		r.gets()
		require.Equal(t, "reading history", s.Stage(r.sub))
		s.node.Release()
		synctest.Wait()
		require.Equal(t, "placed", s.Stage(r.sub))
		n, err := r.sub.Poll(make([]*broadcast.Message, 5))
		require.NoError(t, err)
		require.Equal(t, 5, n)
		require.Equal(t, "placed", s.Stage(r.sub))
		r.gets(texts("", 5, 40)...)
		require.Equal(t, "live", s.Stage(r.sub))

		// Topics that are set while history is returned are located from Position.
		s.node.Hold()
		r = s.resume(begin, "x")
		s.node.Release()
		synctest.Wait()
		_, err = r.sub.Poll(make([]*broadcast.Message, 5))
		require.NoError(t, err)
		s.node.Hold()
		require.NoError(t, r.sub.(broadcast.TopicSetter).SetTopics([]string{"x", "y"}))
		require.Equal(t, "reading history", s.Stage(r.sub))
		s.node.Release()
		r.gets(texts("", 5, 40)...)
	})
}

// History that has been read, then a new epoch, then other topics: what the new topics have had
// in the epoch before is lost, so the gap comes before anything else. Without new topics, the
// history comes first.
func TestSetTopicsBetweenHistoryAndANewEpoch(t *testing.T) {
	for _, partly := range []bool{false, true} {
		for _, test := range []struct {
			topics []string
			want   []string
		}{
			{[]string{"x", "y", "z"}, []string{"gap", "new"}},
			{[]string{"y", "z"}, []string{"gap"}},
			{[]string{"x"}, append(texts("x", 0, 20), "gap", "new")},
		} {
			synctest.Test(t, func(t *testing.T) {
				engine := &broadcasttest.Journal{}
				s := newServer(t, engine, nil)
				begin := s.position()
				for i := range 20 {
					s.publish("x", fmt.Sprint("x", i))
					s.publish("y", fmt.Sprint("y", i))
					s.publish("z", fmt.Sprint("z", i))
				}
				synctest.Wait()
				r := s.resume(begin, "x", "y")
				synctest.Wait()
				require.Equal(t, "placed", s.Stage(r.sub))
				want := test.want
				if partly {
					n, err := r.sub.Poll(make([]*broadcast.Message, 2))
					require.NoError(t, err)
					require.Equal(t, 2, n)
					if want[0] == "x0" {
						want = want[1:]
					}
				}
				engine.Recreate()
				synctest.Wait()
				require.NoError(t, r.sub.(broadcast.TopicSetter).SetTopics(test.topics))
				s.publish("x", "new")
				r.gets(want...)
			})
		}
	}
}

// What follows the end of a finished subscription is no loss of its, however it is lost: by its
// ring, by the tail, or with the epoch.
func TestFinishedSubscriptionMissesNothingAfterItsEnd(t *testing.T) {
	lose := map[string]func(s *server, engine *broadcasttest.Journal){
		"the ring": func(s *server, _ *broadcasttest.Journal) { s.publish("x", texts("later", 0, 40)...) },
		"the tail": func(s *server, engine *broadcasttest.Journal) {
			s.node.Hold()
			for range 3 {
				_, err := engine.Append(s.t.Context(), broadcast.Message{Topic: "x"})
				require.NoError(s.t, err)
			}
			engine.Trim(100)
			s.node.Release()
		},
		"the epoch": func(_ *server, engine *broadcasttest.Journal) { engine.Recreate() },
	}
	for name, lose := range lose {
		for _, polled := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				engine := &broadcasttest.Journal{}
				s := newServer(t, engine, nil)
				r := s.resume(broadcast.ID{}, "x", "y")
				if polled {
					r.gets()
				}
				want := []string{"end"}
				if name == "the tail" { // the rings keep what was before
					s.publish("x", "0", "1")
					want = []string{"0", "1", "end"}
				}
				synctest.Wait()
				r.sub.(broadcast.Finisher).Finish()
				end := s.position()
				lose(s, engine)
				synctest.Wait()
				require.Equal(t, want, r.poll(), "%s, polled %v", name, polled)
				require.Equal(t, end, r.sub.Position(), name)
				require.Zero(t, s.Stats().Gaps, name)
			})
		}
	}
}

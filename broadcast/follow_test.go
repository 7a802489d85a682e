package broadcast_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

var errAway = errors.New("the engine is away")

// server is a Hub on its own node of a journal. It lives in a bubble, in which
// the Hub's Run follows at once: what was published has arrived everywhere after
// synctest.Wait.
type server struct {
	t *testing.T
	*broadcast.Hub
	node   *broadcasttest.Journal
	log    records
	cancel context.CancelCauseFunc
	ended  chan error
}

// newServer starts a server on an engine; its Hub's Journal is what dress makes
// of its node, if that is not nil.
func newServer(t *testing.T, engine *broadcasttest.Journal, dress func(broadcast.Journal) broadcast.Journal) *server {
	s := newStoppedServer(t, engine, dress)
	s.start()
	synctest.Wait()
	return s
}

// newStoppedServer does not let Run run yet.
func newStoppedServer(t *testing.T, engine *broadcasttest.Journal, dress func(broadcast.Journal) broadcast.Journal) *server {
	s := &server{t: t, node: engine.Node()}
	s.Hub = &broadcast.Hub{Keep: 16, Journal: s.node, Logger: slog.New(slog.NewTextHandler(&s.log, nil))}
	if dress != nil {
		s.Journal = dress(s.node)
	}
	t.Cleanup(func() {
		s.Close()
		if s.ended != nil {
			s.stop(nil)
		}
	})
	return s
}

func (s *server) start() {
	ctx, cancel := context.WithCancelCause(context.Background())
	s.cancel, s.ended = cancel, make(chan error, 1)
	go func() { s.ended <- s.Run(ctx) }()
}

// stop ends Run and returns its error.
func (s *server) stop(cause error) error {
	s.cancel(cause)
	err := <-s.ended
	s.ended = nil
	return err
}

// say publishes texts on a topic.
func (s *server) say(topic string, texts ...string) (last broadcast.ID) {
	s.t.Helper()
	for _, text := range texts {
		id, err := s.Publish(s.t.Context(), broadcast.Message{Topic: topic, Data: []byte(text)})
		require.NoError(s.t, err)
		last = id
	}
	return last
}

// here is the Hub's Position.
func (s *server) here() broadcast.ID {
	s.t.Helper()
	id, err := s.Position(s.t.Context())
	require.NoError(s.t, err)
	require.False(s.t, id.IsZero())
	return id
}

// records are the lines of a log.
type records struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (r *records) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.Write(line)
}

// with returns the lines that contain a text.
func (r *records) with(text string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for line := range strings.Lines(r.all.String()) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}

// reader is a subscription that says what comes.
type reader struct {
	t     *testing.T
	sub   broadcast.Subscription
	calls atomic.Int64 // of Notify
}

func (s *server) read(opts broadcast.SubscribeOptions) *reader {
	s.t.Helper()
	r := &reader{t: s.t}
	opts.Notify = func() { r.calls.Add(1) }
	sub, err := s.Subscribe(s.t.Context(), opts)
	require.NoError(s.t, err)
	r.sub = sub
	s.t.Cleanup(func() { sub.Close() })
	return r
}

func (s *server) from(after broadcast.ID, topics ...string) *reader {
	s.t.Helper()
	return s.read(broadcast.SubscribeOptions{Topics: topics, After: after})
}

// comes is all that has come by now: texts, and "gap" where one is told.
func (r *reader) comes() []string {
	r.t.Helper()
	synctest.Wait()
	come := []string{}
	buf := make([]*broadcast.Message, 5)
	for {
		before := r.sub.Position()
		n, err := r.sub.Poll(buf)
		after := r.sub.Position()
		switch {
		case errors.Is(err, broadcast.ErrClosed):
			return append(come, "end")
		case err != nil:
			var gap *broadcast.GapError
			require.ErrorAs(r.t, err, &gap)
			come = append(come, "gap")
			if n == 0 {
				require.Equal(r.t, gap.ID, after, "GapError.ID where nothing follows, and Position")
			} else {
				require.Equal(r.t, broadcast.MakeID(buf[0].ID.Epoch(), buf[0].ID.Seq()-1), gap.ID, "GapError.ID and what follows")
			}
		case before.Epoch() == after.Epoch():
			require.GreaterOrEqual(r.t, after.Seq(), before.Seq(), "Position and where it was")
		}
		for _, m := range buf[:n] {
			come = append(come, string(m.Data))
			require.LessOrEqual(r.t, m.ID.Seq(), after.Seq(), "a message and Position")
		}
		if n == 0 && err == nil {
			return come
		}
	}
}

// gets checks what has come by now.
func (r *reader) gets(want ...string) {
	r.t.Helper()
	require.Equal(r.t, append([]string{}, want...), r.comes())
}

// wakes checks that news has called Notify since the last time, then what came.
func (r *reader) wakes(want ...string) {
	r.t.Helper()
	synctest.Wait()
	require.NotZero(r.t, r.calls.Swap(0), "calls of Notify")
	r.gets(want...)
}

func other(id broadcast.ID) broadcast.ID { return broadcast.MakeID(id.Epoch()^1<<40, id.Seq()) }

func TestFollowSeveralServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		onA, onB := a.from(broadcast.ID{}, "x", "y"), b.from(broadcast.ID{}, "y", "x")
		onA.gets()
		onB.gets()
		var all sync.WaitGroup
		for _, s := range []*server{a, b, a, b} {
			all.Go(func() {
				for i := range 4 {
					s.say([]string{"x", "y"}[i%2], fmt.Sprintf("%p %d", s, i))
				}
			})
		}
		all.Wait()
		synctest.Wait()
		require.NotZero(t, onA.calls.Load())
		require.NotZero(t, onB.calls.Load())
		came := onA.comes()
		require.Len(t, came, 16)
		onB.gets(came...)
		require.Equal(t, onA.sub.Position(), onB.sub.Position())
		require.Equal(t, a.here(), b.here())
	})
}

func TestFollowMovesBetweenServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		servers := []*server{newServer(t, engine, nil), newServer(t, engine, nil), newServer(t, engine, nil)}
		client := servers[0].from(broadcast.ID{}, "x")
		client.gets()
		for i := range 12 {
			client.sub.Close()
			id := servers[(i+1)%3].say("x", fmt.Sprint(i))
			client = servers[i*i%3].from(client.sub.Position(), "x")
			client.gets(fmt.Sprint(i))
			require.Equal(t, id, client.sub.Position())
		}
	})
}

func TestFollowAheadOfTheTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		a.say("x", "0")
		synctest.Wait()
		b.node.Hold()
		a.say("x", "1")
		second := a.say("x", "2")
		behind := b.from(broadcast.ID{}, "x") // it does not know better
		ahead, quiet := b.from(second, "x"), b.from(second, "y", "z")
		for range 3 {
			for _, r := range []*reader{ahead, quiet} {
				r.gets()
				require.Equal(t, second, r.sub.Position(), "it never goes back")
			}
			time.Sleep(time.Minute)
		}
		b.node.Release()
		synctest.Wait()
		b.node.Hold()
		ahead.gets()
		quiet.gets()
		require.Equal(t, second, ahead.sub.Position())
		third := a.say("x", "3")
		ahead.gets()
		require.Equal(t, second, ahead.sub.Position())
		b.node.Release()
		ahead.wakes("3")
		quiet.gets()
		require.Equal(t, third, ahead.sub.Position())
		require.Equal(t, third, quiet.sub.Position())
		behind.gets("1", "2", "3")
		require.Zero(t, b.Stats().Gaps)
	})
}

// What is evicted while a client waits for the tail is lost to it only if it is
// behind its position.
func TestFollowAheadOfTheTailAndOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		b.node.Hold()
		var ids []broadcast.ID
		for i := range 20 {
			ids = append(ids, a.say("x", fmt.Sprint(i)))
		}
		fine, overrun := b.from(ids[3], "x"), b.from(ids[2], "x")
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

// Now is what this server has heard of, be it that its tail is behind.
func TestFollowNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		b.node.Hold()
		a.say("x", "0")
		mine := b.say("x", "mine")
		require.Equal(t, mine, b.here())
		fresh, page := b.from(broadcast.ID{}, "x"), b.from(b.here(), "x")
		for _, r := range []*reader{fresh, page} {
			require.Equal(t, mine, r.sub.Position())
			r.gets()
			require.Equal(t, mine, r.sub.Position())
		}
		b.node.Release()
		a.say("x", "then")
		fresh.wakes("then")
		page.wakes("then")
	})
}

func TestFollowImpossiblePositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		a.say("x", "0", "1")
		synctest.Wait()
		b.node.Hold()
		newest := a.say("x", "2", "3")
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
			r := b.from(test.after, "x")
			require.Equal(t, test.after, r.sub.Position(), "until something is known about it")
			come := r.comes()
			require.NotEmpty(t, come, test.name)
			require.Equal(t, "gap", come[0], test.name)
			if test.after.Epoch() == newest.Epoch() {
				require.Equal(t, newest, r.sub.Position(), "%s: now, for none of what is on its way will be returned", test.name)
			}
			b.node.Release()
			synctest.Wait()
			come = append(come, r.comes()...)
			if test.name == "far future" || test.name == "future" {
				require.Equal(t, []string{"gap"}, come, test.name)
			} else {
				require.Equal(t, append([]string{"gap"}, test.want[:4]...), come, test.name)
			}
			r.sub.Close()
		}
		last := b.from(broadcast.MakeID(newest.Epoch(), 1<<63), "x")
		last.gets("gap")
		a.say("x", "then")
		last.wakes("then")
	})
}

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

func TestFollowEngineDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a := newServer(t, engine, nil)
		a.say("x", "0", "1")
		count := &counted{}
		b := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal { count.Journal = j; return count })
		b.node.Fail(errAway)
		ahead := a.say("x", "2", "3")

		known := b.from(broadcast.MakeID(ahead.Epoch(), 1), "x")
		known.gets("1")
		var waiting, lost, future []*reader
		for range 20 {
			waiting = append(waiting, b.from(ahead, "x"))
			lost = append(lost, b.from(other(ahead), "x"))
			future = append(future, b.from(broadcast.MakeID(ahead.Epoch(), ahead.Seq()+7), "x"))
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
		require.EqualValues(t, 1, count.bounds.Load(), "calls of Bounds for all that wait")
		known.wakes("2", "3")
		for i := range waiting {
			waiting[i].gets()
			require.Equal(t, ahead, waiting[i].sub.Position())
			lost[i].wakes("gap", "0", "1", "2", "3")
			future[i].wakes("gap")
		}
		a.say("x", "then")
		for i := range waiting {
			waiting[i].wakes("then")
			lost[i].wakes("then")
			future[i].wakes("then")
		}
	})
}

func TestFollowBeforeTheJournalIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a := newServer(t, engine, nil)
		seen := a.say("x", "0", "1")
		a.say("x", "2")
		b := newStoppedServer(t, engine, nil)
		b.node.Fail(errAway)
		b.start()
		page := b.here()
		require.EqualValues(t, 1, page.Epoch(), "the reserved epoch, where the journal's is not known")
		fresh, resumed, lost, old := b.from(broadcast.ID{}, "x"), b.from(seen, "x"), b.from(page, "x"), b.from(other(seen), "x")
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
		for _, text := range fresh.comes() {
			require.Equal(t, "gap", text, "to a fresh subscription comes nothing that was published before")
		}
		require.Equal(t, a.here(), b.here())
		require.Equal(t, a.here(), fresh.sub.Position())
		a.say("x", "then")
		for _, r := range []*reader{fresh, resumed, lost, old} {
			r.wakes("then")
		}
		b.from(again, "x").gets("gap", "0", "1", "2", "then")
	})
}

// What is published behind a fresh subscription must not be missing in silence,
// also where the subscription's place in the log was not known yet.
func TestFollowPublishBeforeTheJournalIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newStoppedServer(t, engine, nil)
		s.say("x", "before")
		fresh := s.from(broadcast.ID{}, "x")
		fresh.gets()
		s.say("x", "mine")
		s.start()
		come := fresh.comes()
		require.NotEmpty(t, come, "neither the message nor a gap")
		require.Subset(t, []string{"gap", "mine"}, come)
		s.say("x", "then")
		fresh.gets("then")
	})
}

func TestFollowLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		first := a.say("x", "0")
		synctest.Wait()
		readers := []*reader{b.from(broadcast.ID{}, "x"), b.from(broadcast.ID{}, "quiet"), b.from(broadcast.ID{}, "quiet", "silent", "x")}
		behind := b.from(broadcast.MakeID(first.Epoch(), first.Seq()-1), "x")
		for _, r := range readers {
			r.gets()
		}
		b.node.Fail(errAway)
		a.say("elsewhere", "1", "2", "3")
		edge := a.say("x", "4")
		a.say("x", "5")
		engine.Trim(5) // up to edge
		ahead := b.from(edge, "x", "quiet")
		b.node.Fail(nil)
		time.Sleep(time.Minute)

		readers[0].wakes("gap", "5")
		readers[1].wakes("gap")
		readers[2].wakes("gap", "5")
		behind.gets("gap", "0", "5")
		ahead.gets("5")
		for _, r := range append(readers, behind) {
			require.Equal(t, b.here(), r.sub.Position())
			r.gets() // told once
		}
		// Topics that are made only now know of it, too.
		b.from(first, "new").gets("gap")
		b.from(first, "new", "newer").gets("gap")
		b.from(broadcast.MakeID(edge.Epoch(), edge.Seq()-1), "newest").gets("gap")
		b.from(edge, "new").gets()
		b.from(b.here(), "newest").gets()
		b.from(first, "x").gets("gap", "5")
		a.say("new", "then")
		b.from(edge, "new").gets("then")
	})
}

// A loss that is noticed while nothing follows it is told at once.
func TestFollowLossIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		r := b.from(broadcast.ID{}, "x")
		r.gets()
		b.node.Hold()
		last := a.say("x", "0", "1")
		engine.Trim(2)
		r.gets()
		b.node.Release()
		r.wakes("gap")
		require.Equal(t, last, r.sub.Position())
		b.node.Hold()
		a.say("x", "2", "3")
		engine.Trim(2)
		b.node.Release()
		r.wakes("gap")
		a.say("x", "then")
		r.wakes("then")
	})
}

func TestFollowNewEpoch(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault func(*broadcasttest.Journal)
		left  []string
	}{
		{"made anew", (*broadcasttest.Journal).Recreate, nil},
		{"lost its tail", func(j *broadcasttest.Journal) { j.LoseTail(2) }, []string{"0", "1"}},
		{"lost everything", func(j *broadcasttest.Journal) { j.LoseTail(100) }, nil},
		{"lost nothing, as far as it knows", func(j *broadcasttest.Journal) { j.LoseTail(0) }, []string{"0", "1", "2", "3"}},
		{"trimmed and lost its tail", func(j *broadcasttest.Journal) { j.Trim(1); j.LoseTail(2) }, []string{"1"}},
		{"restarted and made anew", func(j *broadcasttest.Journal) { j.Restart(); j.Recreate() }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				engine := &broadcasttest.Journal{}
				a, b := newServer(t, engine, nil), newServer(t, engine, nil)
				old := []broadcast.ID{a.here()}
				for i := range 4 {
					old = append(old, a.say("x", fmt.Sprint(i)))
				}
				synctest.Wait()
				x, quiet := b.from(broadcast.ID{}, "x"), b.from(broadcast.ID{}, "quiet", "silent")
				unpolled := b.from(old[1], "x")
				x.gets()
				quiet.gets()
				test.fault(engine)
				time.Sleep(time.Minute)
				x.wakes(append([]string{"gap"}, test.left...)...)
				quiet.wakes("gap")
				unpolled.gets(append([]string{"gap"}, test.left...)...)

				id := a.say("x", "then")
				require.NotEqual(t, old[0].Epoch(), id.Epoch())
				require.NotContains(t, old, id)
				for _, r := range []*reader{x, unpolled} {
					r.wakes("then")
				}
				quiet.gets()
				for _, r := range []*reader{x, quiet, unpolled} {
					require.Equal(t, id, r.sub.Position())
				}
				for _, s := range []*server{a, b} {
					for _, place := range old {
						s.from(place, "x").gets(append(append([]string{"gap"}, test.left...), "then")...)
						s.from(place, "new").gets("gap")
					}
					s.from(broadcast.MakeID(id.Epoch(), id.Seq()-1), "x").gets("then")
					s.from(id, "x", "new").gets()
				}
			})
		})
	}
}

func TestFollowAheadInTheNextEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		a.say("x", "old")
		synctest.Wait()
		b.node.Hold()
		engine.Recreate()
		first := a.say("x", "0")
		newest := a.say("x", "1")
		// From a server that has entered the new epoch.
		client, fresh := b.from(first, "x", "y"), b.from(broadcast.ID{}, "x")
		future := b.from(broadcast.MakeID(first.Epoch(), 1<<40), "x")
		for range 3 {
			client.gets()
			fresh.gets()
			require.Equal(t, first, client.sub.Position())
			time.Sleep(time.Minute)
		}
		future.comes()
		b.node.Release()
		client.wakes("1")
		fresh.wakes("gap", "0", "1")
		require.Equal(t, newest, client.sub.Position())
		require.Contains(t, future.comes(), "gap")
		a.say("x", "then")
		for _, r := range []*reader{client, fresh, future} {
			r.wakes("then")
		}
	})
}

// stalled holds back the answers of Bounds.
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

// The tail may enter a new epoch while the engine's answer about the old one is
// on its way: who waited for it must not wait for ever.
func TestFollowAnswerOfAnotherEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a := newServer(t, engine, nil)
		stall := &stalled{leave: make(chan struct{})}
		b := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal { stall.Journal = j; return stall })
		b.node.Hold()
		ahead := a.say("x", "0")
		stall.on.Store(true)
		client := b.from(ahead, "x")
		client.gets()
		engine.Recreate()
		b.node.Release()
		client.gets()
		stall.on.Store(false)
		close(stall.leave)
		client.wakes("gap")
		a.say("x", "then")
		client.wakes("then")
	})
}

// gated lets the first answer of Bounds come late, and does not ask for the second
// before it may.
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

// The same where the Hub learns of its first epoch meanwhile.
func TestFollowFirstAnswerOfAnotherEpoch(t *testing.T) {
	for range 20 { // either of the two who ask may be the first
		synctest.Test(t, func(t *testing.T) {
			engine := &broadcasttest.Journal{}
			a := newServer(t, engine, nil)
			gate := &gated{first: make(chan struct{}), second: make(chan struct{})}
			b := newStoppedServer(t, engine, func(j broadcast.Journal) broadcast.Journal { gate.Journal = j; return gate })
			client := b.from(a.say("x", "0"), "x")
			b.node.Fail(errAway) // so that both try again, whoever comes first
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
			client.comes()
			close(gate.first)
			time.Sleep(time.Minute)
			require.NotZero(t, client.calls.Load(), "calls of Notify")
			require.Contains(t, client.comes(), "gap")
			a.say("x", "then")
			client.gets("then")
		})
	}
}

// stuttering begins its Tails a few entries too early.
type stuttering struct{ *broadcasttest.Journal }

func (s stuttering) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return s.Journal.Tail(ctx, broadcast.MakeID(after.Epoch(), after.Seq()-min(3, after.Seq())))
}

func TestFollowDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal { return stuttering{j.(*broadcasttest.Journal)} })
		x, both := s.from(broadcast.ID{}, "x"), s.from(broadcast.ID{}, "x", "y")
		for i := range 10 {
			s.say([]string{"x", "y"}[i%2], fmt.Sprint(i))
			engine.Restart()
			time.Sleep(time.Minute)
		}
		x.gets("0", "2", "4", "6", "8")
		both.gets("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
		require.Equal(t, 10, s.Stats().Messages)
		require.Zero(t, s.Stats().Gaps)
	})
}

// leaping leaves entries out and does not say so.
type leaping struct{ *broadcasttest.Journal }

func (l leaping) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return func(yield func(broadcast.Message, error) bool) {
		for m, err := range l.Journal.Tail(ctx, after) {
			if string(m.Data) != "left out" && !yield(m, err) {
				return
			}
		}
	}
}

func TestFollowJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal { return leaping{j.(*broadcasttest.Journal)} })
		x, y := s.from(broadcast.ID{}, "x"), s.from(broadcast.ID{}, "y")
		begin := s.here()
		s.say("x", "0")
		x.gets("0")
		y.gets()
		s.say("z", "left out")
		x.gets()
		s.say("x", "1")
		x.wakes("gap", "1")
		y.wakes("gap")
		s.from(begin, "z").gets("gap")
	})
}

func TestFollowForeignEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		x := s.from(broadcast.ID{}, "x")
		x.gets()
		s.say("x", "0")
		for _, test := range []struct {
			name string
			msg  broadcast.Message
			log  int
		}{
			{"no message", broadcast.Message{}, 0},
			{"line break in the topic", broadcast.Message{Topic: "x\ny"}, 1},
			{"topic too long", broadcast.Message{Topic: strings.Repeat("x", 256)}, 1},
			{"reserved type", broadcast.Message{Topic: "x", Type: "gap"}, 1},
			{"line break in the type", broadcast.Message{Topic: "x", Type: "a\r"}, 1},
			{"not UTF-8", broadcast.Message{Topic: "x", Data: []byte("\xff")}, 1},
		} {
			ids, err := engine.Append(t.Context(), test.msg)
			require.NoError(t, err)
			synctest.Wait()
			assert.Equal(t, ids[0], s.here(), test.name)
			assert.Len(t, s.log.with(ids[0].String()), test.log, "%s: lines of the log about it", test.name)
		}
		last := s.say("x", "1")
		x.gets("0", "1")
		require.Equal(t, last, x.sub.Position())
		require.EqualValues(t, 8, last.Seq())
		require.Zero(t, s.Stats().Gaps)
		_, err := engine.Append(t.Context(), broadcast.Message{})
		require.NoError(t, err)
		x.gets()
		require.Equal(t, s.here(), x.sub.Position())
	})
}

func TestFollowPublishWhileTheEngineIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		x := s.from(broadcast.ID{}, "x")
		m := broadcast.Message{Topic: "x", Data: []byte("lost")}

		s.node.Fail(errAway)
		_, err := s.Publish(t.Context(), m)
		require.ErrorIs(t, err, errAway)
		require.NotErrorIs(t, err, broadcast.ErrNotPublished, "it may have arrived")
		s.node.Fail(fmt.Errorf("%w: %w", broadcast.ErrNotPublished, errAway))
		_, err = s.Publish(t.Context(), m)
		require.ErrorIs(t, err, errAway)
		require.ErrorIs(t, err, broadcast.ErrNotPublished, "the journal knows")
		_, err = s.Publish(t.Context(), broadcast.Message{Topic: "x\n"})
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
		require.NotErrorIs(t, err, errAway, "the engine need not be asked")

		s.node.Fail(nil)
		s.say("x", "at once, before the tail is back")
		time.Sleep(time.Minute)
		x.gets("at once, before the tail is back")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.Publish(ctx, m)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, broadcast.ErrNotPublished)
		x.gets()
	})
}

func TestFollowBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		count := &counted{}
		s := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal { count.Journal = j; return count })
		require.True(t, s.Stats().Following)
		x := s.from(broadcast.ID{}, "x")
		x.gets()

		// A short absence is a short pause.
		s.node.Restart()
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, s.Stats().Following)
		require.EqualValues(t, 2, count.tails.Load())

		// A long one does not make it ask all the time.
		count.tails.Store(0)
		s.node.Fail(errAway)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.False(t, s.Stats().Following)
		tries := count.tails.Load()
		require.Greater(t, tries, int64(600/11))
		require.Less(t, tries, int64(600))
		require.Len(t, s.log.with("the engine is away"), int(tries)+1, "each failure is logged once, and the first end")
		engine.Append(t.Context(), broadcast.Message{Topic: "x", Data: []byte("meanwhile")})
		s.node.Fail(nil)
		time.Sleep(11 * time.Second)
		x.wakes("meanwhile")
		require.True(t, s.Stats().Following)
		require.Zero(t, s.Stats().Gaps)

		// On a quiet log, too, a success ends the long pauses.
		for range 10 {
			time.Sleep(time.Hour)
			engine.Restart()
			time.Sleep(time.Second)
			synctest.Wait()
			require.True(t, s.Stats().Following)
		}
		x.gets()
		s.say("x", "then")
		engine.Restart()
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, s.Stats().Following)
		x.gets("then")
	})
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, new(broadcast.Hub).Run(t.Context()), "in memory there is nothing to follow")

		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		x := s.from(broadcast.ID{}, "x")
		x.gets()
		err := s.Run(t.Context())
		require.Error(t, err, "a second Run beside the first")
		require.NotErrorIs(t, err, broadcast.ErrClosed)
		s.say("x", "0")
		x.wakes("0")

		why := errors.New("enough")
		require.ErrorIs(t, s.stop(why), why)
		require.False(t, s.Stats().Following)
		engine.Append(t.Context(), broadcast.Message{Topic: "x", Data: []byte("1")})
		x.gets()
		s.start()
		x.wakes("1")

		require.ErrorIs(t, s.stop(nil), context.Canceled)
		s.start()
		s.say("x", "2")
		synctest.Wait()
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-s.ended, broadcast.ErrClosed)
		s.ended = nil
		x.wakes("2", "end")
		require.ErrorIs(t, s.Run(t.Context()), broadcast.ErrClosed, "after Close")
	})
}

// Run ends at once, also while it waits for an engine that is away.
func TestRunEndsWhileTheEngineIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, end := range []func(*server) error{
			func(s *server) error { return s.stop(broadcast.ErrClosed) },
			func(s *server) error { s.Close(); return s.stop(nil) },
		} {
			s := newServer(t, &broadcasttest.Journal{}, nil)
			s.node.Fail(errAway)
			s.from(broadcast.MakeID(7, 7), "x").gets() // waits for an answer, too
			time.Sleep(time.Minute)
			began := time.Now()
			require.ErrorIs(t, end(s), broadcast.ErrClosed)
			require.Zero(t, time.Since(began))
		}
	})
}

func TestFollowWarmStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a := newServer(t, engine, nil)
		var ids []broadcast.ID
		var texts []string
		for i := range 30 {
			texts = append(texts, fmt.Sprint(i))
			ids = append(ids, a.say([]string{"x", "y"}[i%2], texts[i]))
		}
		b := newServer(t, engine, nil)
		require.Equal(t, a.here(), b.here())
		for i, id := range ids {
			b.from(id, "x", "y").gets(texts[i+1:]...)
		}
		b.read(broadcast.SubscribeOptions{Topics: []string{"y"}, Last: 2}).gets("27", "29")
		b.from(broadcast.ID{}, "x").gets()

		engine.Trim(10)
		c := newServer(t, engine, nil)
		c.from(ids[8], "x", "y").gets(append([]string{"gap"}, texts[10:]...)...)
		c.from(ids[9], "x", "y").gets(texts[10:]...)
		c.from(ids[8], "new").gets("gap")
		c.from(ids[9], "new").gets()

		// A client may come while the history is still on its way.
		d := newStoppedServer(t, engine, nil)
		d.node.Hold()
		d.start()
		synctest.Wait()
		resumed, fresh := d.from(ids[19], "x", "y"), d.from(broadcast.ID{}, "x")
		require.Equal(t, a.here(), fresh.sub.Position())
		resumed.gets()
		fresh.gets()
		d.node.Release()
		resumed.wakes(texts[20:]...)
		fresh.gets()
	})
}

// A server that starts does not read the whole of a long history.
func TestFollowWarmStartIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const warm = 65_536
		engine := &broadcasttest.Journal{}
		var newest broadcast.ID
		for range 2 {
			ids, err := engine.Append(t.Context(), make([]broadcast.Message, warm/2+50)...)
			require.NoError(t, err)
			newest = ids[len(ids)-1]
		}
		log := new(tailLog)
		s := newServer(t, engine, log.dress)
		require.Equal(t, newest, s.here())
		edge := broadcast.MakeID(newest.Epoch(), newest.Seq()-warm)
		require.Equal(t, []broadcast.ID{edge}, log.all(), "where the first Tail begins")
		s.from(edge, "x").gets()
		require.Len(t, log.all(), 1)
	})
}

// Last messages that this server has not read yet must not fall between those
// that it has and those that follow.
func TestFollowLastAheadOfTheTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		s.say("x", "0", "1")
		synctest.Wait()
		s.node.Hold()
		s.say("x", "2")
		s.say("y", "3")
		r := s.read(broadcast.SubscribeOptions{Topics: []string{"x"}, Last: 1})
		begin := r.sub.Position()
		r.gets("1")
		require.Equal(t, begin, r.sub.Position(), "behind the last messages from the start")
		s.node.Release()
		r.wakes("2")
		s.say("x", "then")
		r.wakes("then")
		s.from(begin, "x").gets("2", "then")

		// Before the journal is known nothing is: as from a position that is not.
		late := newStoppedServer(t, engine, nil)
		last := late.read(broadcast.SubscribeOptions{Topics: []string{"x", "y"}, Last: 1})
		last.gets()
		late.start()
		come := last.comes()
		require.Equal(t, "gap", come[0])
		synctest.Wait()
		require.Equal(t, []string{"gap", "0", "1", "2", "3", "then"}, append(come, last.comes()...))
		s.say("y", "again")
		last.wakes("again")
	})
}

// A subscription that was told to end does so in a new epoch, too.
func TestFollowEndInANewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		s.say("x", "0", "1", "2", "3")
		before := s.from(s.here(), "x")
		before.gets()
		s.say("x", "4")
		synctest.Wait()
		before.sub.(broadcast.Finisher).Finish()
		engine.Recreate()
		s.say("x", "new")
		before.wakes("gap", "end")
		s.from(before.sub.Position(), "x").gets("new")
	})
}

// A topic that was forgotten still knows what a client may have missed there.
func TestFollowForgottenTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		seen := s.say("x", "0")
		missed := s.say("x", "1")
		time.Sleep(4 * time.Minute)
		s.say("y", "2")
		r := s.from(seen, "x")
		r.gets("1")
		r.sub.Close()
		for range 3 {
			time.Sleep(6 * time.Minute)
			s.say("y", "again") // forgets x
		}
		synctest.Wait()
		require.Equal(t, 1, s.Stats().Topics)
		s.from(missed, "x").gets()
		s.from(seen, "x").gets("1") // which the journal has not forgotten
		s.from(seen, "never heard of").gets()
		s.say("x", "then")
		s.from(missed, "x").gets("then")
		s.from(seen, "x").gets("1", "then")
	})
}

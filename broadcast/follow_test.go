package broadcast_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"slices"
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

func TestServersOnOneJournalAreOneLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		onA, onB := a.resume(broadcast.ID{}, "x", "y"), b.resume(broadcast.ID{}, "y", "x")
		onA.gets()
		onB.gets()
		var all sync.WaitGroup
		for _, s := range []*server{a, b, a, b} {
			all.Go(func() {
				for i := range 4 {
					s.publish([]string{"x", "y"}[i%2], fmt.Sprintf("%p %d", s, i))
				}
			})
		}
		all.Wait()
		synctest.Wait()
		require.NotZero(t, onA.calls.Load())
		require.NotZero(t, onB.calls.Load())
		came := onA.poll()
		require.Len(t, came, 16)
		onB.gets(came...)
		require.Equal(t, onA.sub.Position(), onB.sub.Position())
		require.Equal(t, a.position(), b.position())
	})
}

func TestClientMovesBetweenServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		servers := []*server{newServer(t, engine, nil), newServer(t, engine, nil), newServer(t, engine, nil)}
		client := servers[0].resume(broadcast.ID{}, "x")
		client.gets()
		for i := range 12 {
			client.sub.Close()
			id := servers[(i+1)%3].publish("x", fmt.Sprint(i))
			client = servers[i*i%3].resume(client.sub.Position(), "x")
			client.gets(fmt.Sprint(i))
			require.Equal(t, id, client.sub.Position())
		}
	})
}

// stuttering is a Journal whose Tails begin a few entries too early.
type stuttering struct{ *broadcasttest.Journal }

func (s stuttering) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return s.Journal.Tail(ctx, broadcast.MakeID(after.Epoch(), after.Seq()-min(3, after.Seq())))
}

func TestRepeatedEntriesAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal { return stuttering{j.(*broadcasttest.Journal)} })
		x, both := s.resume(broadcast.ID{}, "x"), s.resume(broadcast.ID{}, "x", "y")
		for i := range 10 {
			s.publish([]string{"x", "y"}[i%2], fmt.Sprint(i))
			engine.Restart()
			time.Sleep(time.Minute)
		}
		x.gets("0", "2", "4", "6", "8")
		both.gets("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
		require.Equal(t, 10, s.Stats().Messages)
		require.Zero(t, s.Stats().Gaps)
	})
}

// leaping is a Journal whose Tails leave entries out without an ErrGap.
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

func TestJumpIsALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, func(j broadcast.Journal) broadcast.Journal { return leaping{j.(*broadcasttest.Journal)} })
		x, y := s.resume(broadcast.ID{}, "x"), s.resume(broadcast.ID{}, "y")
		begin := s.position()
		s.publish("x", "0")
		x.gets("0")
		y.gets()
		s.publish("z", "left out")
		x.gets()
		s.publish("x", "1")
		x.wakes("gap", "1")
		y.wakes("gap")
		s.resume(begin, "z").gets("gap")
	})
}

func TestEntriesThatAreNoMessagesCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		x := s.resume(broadcast.ID{}, "x")
		x.gets()
		s.publish("x", "0")
		for _, test := range []struct {
			name string
			msg  broadcast.Message
			log  int
		}{
			{"no message", broadcast.Message{}, 0},
			{"line break in the topic", broadcast.Message{Topic: "x\ny"}, 1},
			{"topic too long", broadcast.Message{Topic: strings.Repeat("x", 256)}, 1},
			{"reserved type", broadcast.Message{Topic: "x", Type: "gap"}, 1},
			{"a type that another version does not reserve", broadcast.Message{Topic: "x", Type: "statechange"}, 1},
			{"a message that a Hub with a higher MaxMessage accepts", broadcast.Message{Topic: "x", Data: make([]byte, 1<<20), Binary: true}, 1},
			{"line break in the type", broadcast.Message{Topic: "x", Type: "a\r"}, 1},
			{"not UTF-8", broadcast.Message{Topic: "x", Data: []byte("\xff")}, 1},
		} {
			ids, err := engine.Append(t.Context(), test.msg)
			require.NoError(t, err)
			synctest.Wait()
			assert.Equal(t, ids[0], s.position(), test.name)
			assert.Len(t, s.log.with(ids[0].String()), test.log, "%s: lines of the log about it", test.name)
		}
		last := s.publish("x", "1")
		x.gets("0", "1")
		require.Equal(t, last, x.sub.Position())
		require.EqualValues(t, 10, last.Seq())
		require.Zero(t, s.Stats().Gaps)
		_, err := engine.Append(t.Context(), broadcast.Message{})
		require.NoError(t, err)
		x.gets()
		require.Equal(t, s.position(), x.sub.Position())
	})
}

// odd is a Journal whose Tail yields something of its own after the second entry, once.
type odd struct {
	*broadcasttest.Journal
	entry broadcast.Message
	err   error
	done  bool
}

func (o *odd) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return func(yield func(broadcast.Message, error) bool) {
		for m, err := range o.Journal.Tail(ctx, after) {
			if !yield(m, err) {
				return
			}
			if m.ID.Seq() == 2 && !o.done {
				o.done = true
				if !yield(o.entry, o.err) {
					return
				}
			}
		}
	}
}

// A journal that yields an ID which no entry can have is tailed anew, and streams go on.
func TestImpossibleIDEndsTheTail(t *testing.T) {
	for _, test := range []struct {
		name  string
		entry broadcast.Message
		err   error
	}{
		{"a loss without an ID", broadcast.Message{}, broadcast.ErrGap},
		{"an entry without an ID", broadcast.Message{Topic: "a"}, nil},
		{"a loss in the reserved epoch", broadcast.Message{ID: broadcast.MakeID(1, 7)}, broadcast.ErrGap},
		{"the place before all entries of another epoch", broadcast.Message{ID: broadcast.MakeID(9, 0)}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, new(broadcasttest.Journal), func(j broadcast.Journal) broadcast.Journal {
					return &odd{Journal: j.(*broadcasttest.Journal), entry: test.entry, err: test.err}
				})
				r := s.resume(s.position(), "a")
				r.gets()
				s.publish("a", "1", "2")
				time.Sleep(time.Minute)
				s.publish("a", "3")
				time.Sleep(time.Minute)
				r.gets("1", "2", "3")
				require.Len(t, s.log.with("which no entry can have"), 1)
			})
		})
	}
}

// An entry that is larger than KeepBytes, from a server that keeps more, is a loss in its
// own topic alone.
func TestEntryLargerThanKeepBytesIsALossOfItsTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		large, small := newServer(t, engine, nil), newStoppedServer(t, engine, nil)
		small.KeepBytes = 1000
		small.start()
		synctest.Wait()
		begin := small.position()
		r := small.resume(begin, "a", "b")
		r.gets() // else the journal is read for it
		large.publish("a", "1")
		large.publish("b", "2")
		large.publish("a", strings.Repeat("x", 1000))
		synctest.Wait()
		require.Equal(t, 1, small.Stats().Messages, "what is on the other topic stays")
		large.publish("a", "3")
		synctest.Wait()
		buf := make([]*broadcast.Message, 8)
		n, err := r.sub.Poll(buf)
		var gap *broadcast.GapError
		require.ErrorAs(t, err, &gap)
		require.Equal(t, []string{"a"}, gap.Topics)
		require.Equal(t, 2, n)
		require.Equal(t, "2", string(buf[0].Data))
		require.Equal(t, "3", string(buf[1].Data))
	})
}

func TestLossIsAGapForAllTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		first := a.publish("x", "0")
		synctest.Wait()
		readers := []*reader{b.resume(broadcast.ID{}, "x"), b.resume(broadcast.ID{}, "quiet"), b.resume(broadcast.ID{}, "quiet", "silent", "x")}
		before := b.resume(broadcast.MakeID(first.Epoch(), first.Seq()-1), "x")
		for _, r := range readers {
			r.gets()
		}
		b.node.Fail(errAway)
		a.publish("elsewhere", "1", "2", "3")
		edge := a.publish("x", "4")
		a.publish("x", "5")
		engine.Trim(5) // up to edge
		ahead := b.resume(edge, "x", "quiet")
		b.node.Fail(nil)
		time.Sleep(time.Minute)

		readers[0].wakes("gap", "5")
		readers[1].wakes("gap")
		readers[2].wakes("gap", "5")
		before.gets("0", "gap", "5")
		ahead.gets("5")
		for _, r := range append(readers, before) {
			require.Equal(t, b.position(), r.sub.Position())
			r.gets() // reported once
		}
		// The loss counts for topics that are made later, too.
		b.resume(first, "new").gets("gap")
		b.resume(first, "new", "newer").gets("gap")
		b.resume(broadcast.MakeID(edge.Epoch(), edge.Seq()-1), "newest").gets("gap")
		b.resume(edge, "new").gets()
		b.resume(b.position(), "newest").gets()
		b.resume(first, "x").gets("gap", "5")
		a.publish("new", "then")
		b.resume(edge, "new").gets("then")
	})
}

// A loss is reported at once, even if no message follows it.
func TestLossIsReportedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		r := b.resume(broadcast.ID{}, "x")
		r.gets()
		b.node.Hold()
		last := a.publish("x", "0", "1")
		engine.Trim(2)
		r.gets()
		b.node.Release()
		r.wakes("gap")
		require.Equal(t, last, r.sub.Position())
		b.node.Hold()
		a.publish("x", "2", "3")
		engine.Trim(2)
		b.node.Release()
		r.wakes("gap")
		a.publish("x", "then")
		r.wakes("then")
	})
}

// A new epoch is a gap, and then all that is kept, but for what a client has had of the entries that
// have survived.
func TestNewEpochIsAGapAndAllThatIsKept(t *testing.T) {
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
				old := []broadcast.ID{a.position()}
				for i := range 4 {
					old = append(old, a.publish("x", fmt.Sprint(i)))
				}
				synctest.Wait()
				x, quiet := b.resume(broadcast.ID{}, "x"), b.resume(broadcast.ID{}, "quiet", "silent")
				unpolled := b.resume(old[1], "x")
				x.gets()
				quiet.gets()
				test.fault(engine)
				time.Sleep(time.Minute)
				after := func(place broadcast.ID) []string { // the n-th message has the text n-1
					return slices.DeleteFunc(slices.Clone(test.left), func(text string) bool { return text < fmt.Sprint(place.Seq()) })
				}
				x.wakes("gap")
				quiet.wakes("gap")
				unpolled.gets(append([]string{"gap"}, after(old[1])...)...)

				id := a.publish("x", "then")
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
						s.resume(place, "x").gets(append(append([]string{"gap"}, after(place)...), "then")...)
						s.resume(place, "new").gets("gap")
					}
					s.resume(broadcast.MakeID(id.Epoch(), id.Seq()-1), "x").gets("then")
					s.resume(id, "x", "new").gets()
				}
			})
		})
	}
}

// A subscription that has been finished gets the gap of a new epoch, and then its end.
func TestFinishedSubscriptionEndsInANewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newServer(t, engine, nil)
		s.publish("x", "0", "1", "2", "3")
		before := s.resume(s.position(), "x")
		before.gets()
		s.publish("x", "4")
		synctest.Wait()
		before.sub.(broadcast.Finisher).Finish()
		engine.Recreate()
		s.publish("x", "new")
		before.wakes("gap", "end")
		s.resume(before.sub.Position(), "x").gets("new")
	})
}

func TestStartReadsWhatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		a := newServer(t, engine, nil)
		var ids []broadcast.ID
		var texts []string
		for i := range 30 {
			texts = append(texts, fmt.Sprint(i))
			ids = append(ids, a.publish([]string{"x", "y"}[i%2], texts[i]))
		}
		b := newServer(t, engine, nil)
		require.Equal(t, a.position(), b.position())
		for i, id := range ids {
			b.resume(id, "x", "y").gets(texts[i+1:]...)
		}
		b.subscribe(broadcast.SubscribeOptions{Topics: []string{"y"}, Last: 2}).gets("27", "29")
		b.resume(broadcast.ID{}, "x").gets()

		engine.Trim(10)
		c := newServer(t, engine, nil)
		c.resume(ids[8], "x", "y").gets(append([]string{"gap"}, texts[10:]...)...)
		c.resume(ids[9], "x", "y").gets(texts[10:]...)
		c.resume(ids[8], "new").gets("gap")
		c.resume(ids[9], "new").gets()

		// A client may resume while the server still reads.
		d := newStoppedServer(t, engine, nil)
		d.node.Hold()
		d.start()
		synctest.Wait()
		resumed, fresh := d.resume(ids[19], "x", "y"), d.resume(broadcast.ID{}, "x")
		require.Equal(t, a.position(), fresh.sub.Position())
		resumed.gets()
		fresh.gets()
		d.node.Release()
		resumed.wakes(texts[20:]...)
		fresh.gets()
	})
}

// A server that starts reads the newest 65,536 entries of a long log.
func TestStartReadsABoundedPart(t *testing.T) {
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
		s := newServer(t, engine, log.wrap)
		require.Equal(t, newest, s.position())
		edge := broadcast.MakeID(newest.Epoch(), newest.Seq()-warm)
		require.Equal(t, []broadcast.ID{edge}, log.all(), "where the first Tail begins")
		s.resume(edge, "x").gets()
		require.Len(t, log.all(), 1)
	})
}

// reentrant is a log whose lines publish to the Hub and ask it.
type reentrant struct {
	slog.Handler
	hub   *broadcast.Hub
	lines atomic.Int64
}

func (r *reentrant) Enabled(context.Context, slog.Level) bool { return true }

func (r *reentrant) Handle(ctx context.Context, line slog.Record) error {
	r.lines.Add(1)
	r.hub.Stats()
	if _, err := r.hub.Position(ctx); err != nil {
		return err
	}
	sub, err := r.hub.Subscribe(ctx, broadcast.SubscribeOptions{Topics: []string{"log"}})
	if err != nil {
		return err
	}
	defer sub.Close()
	_, err = r.hub.Publish(ctx, broadcast.Message{Topic: "log", Data: []byte(line.Message)})
	return err
}

// Nothing is logged while the Hub's lock is held: a handler may use the Hub.
func TestLoggerMayUseTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		var journal *panicky
		s := newStoppedServer(t, engine, func(j broadcast.Journal) broadcast.Journal {
			journal = &panicky{Journal: j.(*broadcasttest.Journal)}
			return journal
		})
		log := &reentrant{Handler: slog.DiscardHandler, hub: s.Hub}
		s.Logger = slog.New(log)
		s.start()
		synctest.Wait()
		r := s.resume(broadcast.ID{}, "log")
		r.gets()
		logged := func(what string) {
			t.Helper()
			time.Sleep(time.Minute)
			got := r.poll()
			require.Len(t, got, int(log.lines.Swap(0)), "a message for each line")
			require.Contains(t, got[0], what)
		}

		_, err := engine.Append(t.Context(), broadcast.Message{Topic: "x\ny"})
		require.NoError(t, err)
		logged("not a valid message")

		engine.Restart()
		logged("following the journal failed")

		journal.armed.Store(true)
		logged("panic in Journal.Bounds")

		engine.Recreate()
		time.Sleep(time.Minute)
		require.NotZero(t, log.lines.Swap(0))
		got := r.poll()
		require.Equal(t, "gap", got[0])
		require.Contains(t, got[1], "new epoch")
	})
}

// A Journal whose Tail panics, and a Logger that does so when that is logged, end nothing: the
// journal is followed again.
func TestTailThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tail := &panickyTail{Journal: new(broadcasttest.Journal)}
		hub := &broadcast.Hub{Journal: tail, Logger: slog.New(panickyLog{slog.DiscardHandler})}
		ended := make(chan error, 1)
		go func() { ended <- hub.Run(t.Context()) }()
		synctest.Wait()
		sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}})
		require.NoError(t, err)
		defer sub.Close()
		_, err = hub.Publish(t.Context(), broadcast.Message{Topic: "a"})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		n, err := sub.Poll(make([]*broadcast.Message, 8))
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.NoError(t, hub.Close())
		require.ErrorIs(t, <-ended, broadcast.ErrClosed)
	})
}

// panickyTail is a journal whose first Tail panics.
type panickyTail struct {
	*broadcasttest.Journal
	tails atomic.Int32
}

func (j *panickyTail) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	if j.tails.Add(1) == 1 {
		panic("the first tail")
	}
	return j.Journal.Tail(ctx, after)
}

type panickyLog struct{ slog.Handler }

func (panickyLog) Enabled(context.Context, slog.Level) bool  { return true }
func (panickyLog) Handle(context.Context, slog.Record) error { panic("the logger") }

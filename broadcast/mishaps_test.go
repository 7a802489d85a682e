package broadcast_test

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// odd yields something of its own behind the second entry, once.
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

// TestFollowIDsThatNoEntryHas has a Journal that forgets to say which entry, or
// which loss, it speaks of. The tail is opened again, and streams go on.
func TestFollowIDsThatNoEntryHas(t *testing.T) {
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
				r := s.from(s.here(), "a")
				r.gets()
				s.say("a", "1", "2")
				time.Sleep(time.Minute)
				s.say("a", "3")
				time.Sleep(time.Minute)
				r.gets("1", "2", "3")
				require.Len(t, s.log.with("which no entry can have"), 1)
			})
		})
	}
}

// TestFollowAnEntryThatIsTooLarge has a server that keeps less than another has
// published: only the topic of that has lost something.
func TestFollowAnEntryThatIsTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		large, small := newServer(t, engine, nil), newStoppedServer(t, engine, nil)
		small.KeepBytes = 100
		small.start()
		synctest.Wait()
		begin := small.here()
		r := small.from(begin, "a", "b")
		large.say("a", "1")
		large.say("b", "2")
		large.say("a", strings.Repeat("x", 200))
		synctest.Wait()
		require.Equal(t, 1, small.Stats().Messages, "what is on the other topic stays")
		large.say("a", "3")
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

// panicky has a Bounds that panics, once it has told the beginning.
type panicky struct {
	*broadcasttest.Journal
	calls int
}

func (p *panicky) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	if p.calls++; p.calls == 2 {
		panic("in Bounds")
	}
	return p.Journal.Bounds(ctx)
}

func TestFollowPanicInBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, new(broadcasttest.Journal), func(j broadcast.Journal) broadcast.Journal {
			return &panicky{Journal: j.(*broadcasttest.Journal)}
		})
		s.say("a", "1")
		synctest.Wait()
		r := s.from(other(s.here()), "a")
		time.Sleep(time.Minute)
		buf := make([]*broadcast.Message, 8)
		n, err := r.sub.Poll(buf)
		require.ErrorIs(t, err, broadcast.ErrGap, "it is asked again")
		require.Equal(t, 1, n)
		require.Len(t, s.log.with("panic"), 1)
	})
}

// TestFollowClientsThatComeAndGoMeanwhile has clients that wait for an engine which
// is away, and leave.
func TestFollowClientsThatComeAndGoMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, new(broadcasttest.Journal), nil)
		s.node.Fail(errAway)
		for range 100 {
			r := s.from(broadcast.MakeID(9, 9), "a")
			time.Sleep(3 * time.Second)
			require.NoError(t, r.sub.Close())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.ErrorIs(t, s.stop(nil), context.Canceled)
		require.Zero(t, s.Waiting())
	})
}

// TestEndBeforeAnOverrun has a subscription that is finished and has had all it was
// owed when its ring is overrun.
func TestEndBeforeAnOverrun(t *testing.T) {
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
	require.ErrorIs(t, err, broadcast.ErrClosed, "what was lost was not owed")
}

// TestManyForgottenTopics has more topics forgotten than are remembered one by one:
// a client that comes back to any of them is told, whoever took its place.
func TestManyForgottenTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const topics = 20_000
		hub := &broadcast.Hub{KeepBytes: 1 << 30}
		before := make([]broadcast.ID, topics)
		for i := range before {
			var err error
			before[i], err = hub.Position(t.Context())
			require.NoError(t, err)
			_, err = hub.Publish(t.Context(), broadcast.Message{Topic: fmt.Sprint(i)})
			require.NoError(t, err)
		}
		time.Sleep(time.Hour)
		for range topics { // each publish forgets two
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "y"})
			require.NoError(t, err)
		}
		require.Equal(t, 1, hub.Stats().Topics)
		for i, after := range before {
			sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{fmt.Sprint(i)}, After: after})
			require.NoError(t, err)
			_, err = sub.Poll(make([]*broadcast.Message, 1))
			assert.ErrorIs(t, err, broadcast.ErrGap)
			sub.Close()
		}
	})
}

// TestFollowLossOfForgottenTopics has a topic that was forgotten when the tail lost
// something, which may have been of that topic.
func TestFollowLossOfForgottenTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := new(broadcasttest.Journal)
		a, b := newServer(t, engine, nil), newServer(t, engine, nil)
		a.say("x", "1")
		seen := a.say("y", "2")
		time.Sleep(time.Hour)
		a.say("z", "3", "4") // forgets x and y
		synctest.Wait()
		require.Equal(t, 1, b.Stats().Topics)
		b.node.Fail(errAway)
		a.say("x", "5")
		engine.Trim(100)
		b.node.Fail(nil)
		time.Sleep(time.Minute)
		b.from(seen, "x").gets("gap")
	})
}

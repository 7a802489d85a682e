package delivery_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

// withoutTopics is a Grant that has no topics, and grants those that its client asks for.
func withoutTopics() *fanfare.Grant {
	g := new(fanfare.Grant)
	g.Change = func(topics []string) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: topics, Change: g.Change}, nil
	}
	return g
}

func wants(topics ...string) delivery.TopicsRequest { return delivery.TopicsRequest{Topics: topics} }

// plainBroadcaster is a Broadcaster whose subscriptions have neither Finish nor SetTopics.
type plainBroadcaster struct{ broadcast.Broadcaster }

func (b plainBroadcaster) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	sub, err := b.Broadcaster.Subscribe(ctx, o)
	return struct{ broadcast.Subscription }{sub}, err
}

// A stream without topics gets nothing but its position, until it has topics: then it
// gets what was published there after the position that it was sent.
func TestStreamWithoutTopics(t *testing.T) {
	for _, plain := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var hub broadcast.Hub
			defer hub.Close()
			var b broadcast.Broadcaster = &hub
			if plain {
				b = plainBroadcaster{&hub}
			}
			publish(t, &hub, "a", "before")
			tr := &transport{every: time.Second}
			conn := connect(t, engine(b, withoutTopics()), tr, "/")
			synctest.Wait()
			assert.Equal(t, []string{"ready 1"}, conn.take())
			time.Sleep(1500 * time.Millisecond)
			assert.Equal(t, []string{"beat"}, conn.take())
			publish(t, &hub, "a", "not for it")
			time.Sleep(time.Second)
			assert.Equal(t, []string{"position 2"}, conn.take(), "it moves with the log")
			publish(t, &hub, "a", "three")
			publish(t, &hub, "b", "four")
			tr.stream.Change(wants("a"))
			synctest.Wait()
			assert.Equal(t, []string{"topics 2", "three 3"}, conn.take())
			publish(t, &hub, "a", "five")
			synctest.Wait()
			assert.Equal(t, []string{"five 5"}, conn.take())
			tr.stream.Change(wants("b"))
			synctest.Wait()
			publish(t, &hub, "b", "six")
			synctest.Wait()
			want := []string{"topics 5", "six 6"}
			if plain {
				want = []string{"topics 5"} // refused
			}
			assert.Equal(t, want, conn.take())
		})
	}
}

// It may leave all topics again, if the new Grant has a Change of its own.
func TestStreamLeavesAllTopics(t *testing.T) {
	for _, first := range [][]string{nil, {"a"}} {
		synctest.Test(t, func(t *testing.T) {
			hub := broadcast.Hub{TopicTTL: time.Millisecond}
			defer hub.Close()
			g := withoutTopics()
			g.Topics = first
			tr := &transport{every: 100 * time.Millisecond}
			conn := connect(t, engine(&hub, g), tr, "/")
			for range 3 {
				tr.stream.Change(wants("a"))
				synctest.Wait()
				publish(t, &hub, "a", "in")
				synctest.Wait()
				tr.stream.Change(wants())
				synctest.Wait()
				publish(t, &hub, "a", "out")
				publish(t, &hub, "forgotten", "x")
				time.Sleep(time.Second) // topics expire, so that nowhere is a new one
			}
			all := conn.take()
			assert.Equal(t, []string{"ready 0", "topics 0", "in 1", "topics 1"}, all[:4])
			for _, said := range all {
				assert.NotContains(t, said, "out")
				assert.NotContains(t, said, "gap")
			}
			assert.Equal(t, 1, hub.Stats().Subscriptions)
		})
	}
}

// A client that comes back without topics and asks for those that it had gets all that it
// missed there, or a gap.
func TestStreamWithoutTopicsResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := broadcast.Hub{Keep: 4}
		defer hub.Close()
		at := publish(t, &hub, "a", "one")
		publish(t, &hub, "a", "two", "three")
		publish(t, &hub, "b", "four")
		for _, test := range []struct {
			after string
			want  []string
		}{
			{at.String(), []string{"ready 1", "topics 1", "two 2", "three 3"}},
			{"1-0", []string{"gap 4", "topics 4"}},
			{broadcast.MakeID(at.Epoch()+7, 3).String(), []string{"gap 4", "topics 4"}},
		} {
			tr := &transport{every: time.Hour}
			conn := connect(t, engine(&hub, withoutTopics()), tr, "/?lastEventId="+test.after)
			tr.stream.Change(wants("a"))
			synctest.Wait()
			assert.Equal(t, test.want, conn.take(), test.after)
			tr.stream.End(delivery.Cut)
			synctest.Wait()
		}
		publish(t, &hub, "a", "5", "6", "7", "8", "9")
		tr := &transport{}
		conn := connect(t, engine(&hub, withoutTopics()), tr, "/?lastEventId="+at.String())
		tr.stream.Change(wants("a"))
		synctest.Wait()
		assert.Equal(t, []string{"ready 1", "topics 1", "gap 5", "6 6", "7 7", "8 8", "9 9"}, conn.take())
	})
}

// It ends in all ways in which other streams do, before and after it has topics.
func TestStreamWithoutTopicsEnds(t *testing.T) {
	for name, end := range map[string]struct {
		with func(*delivery.Stream, *broadcast.Hub)
		why  string
	}{
		"restart":   {func(s *delivery.Stream, _ *broadcast.Hub) { s.End(delivery.Restart) }, "restart"},
		"cut":       {func(s *delivery.Stream, _ *broadcast.Hub) { s.End(delivery.Cut) }, "cut"},
		"Hub.Close": {func(_ *delivery.Stream, h *broadcast.Hub) { h.Close() }, "restart"},
		"Expires":   {func(*delivery.Stream, *broadcast.Hub) { time.Sleep(time.Minute) }, "expired"},
	} {
		for _, has := range []bool{false, true} {
			for _, plain := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, has topics %v, plain %v", name, has, plain), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var hub broadcast.Hub
						defer hub.Close()
						var b broadcast.Broadcaster = &hub
						if plain {
							b = plainBroadcaster{&hub}
						}
						g := withoutTopics()
						g.Expires = time.Now().Add(30 * time.Second)
						tr := &transport{}
						conn := connect(t, engine(b, g), tr, "/")
						if has {
							tr.stream.Change(wants("a"))
						}
						synctest.Wait()
						end.with(tr.stream, &hub)
						synctest.Wait()
						said := conn.take()
						assert.Equal(t, "end: "+end.why, said[len(said)-1])
						assert.Zero(t, hub.Stats().Subscriptions)
					})
				})
			}
		}
	}
	synctest.Test(t, func(t *testing.T) { // MaxAge
		var hub broadcast.Hub
		defer hub.Close()
		conn := connect(t, engine(&hub, withoutTopics()), &transport{maxAge: time.Minute}, "/")
		time.Sleep(time.Minute)
		assert.Equal(t, []string{"ready 0", "end: restart"}, conn.take())
	})
}

// A client that changes its topics again and again waits, and only its latest request
// counts.
func TestChangesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		defer hub.Close()
		var changes atomic.Int32
		var last atomic.Value
		g := &fanfare.Grant{Topics: []string{"a"}}
		g.Change = func(topics []string) (*fanfare.Grant, error) {
			changes.Add(1)
			last.Store(topics[0])
			return &fanfare.Grant{Topics: topics}, nil
		}
		tr := &transport{}
		conn := connect(t, engine(&hub, g), tr, "/")
		ask := func(n int) {
			for i := range n {
				tr.stream.Change(wants(fmt.Sprint("topic ", i)))
				synctest.Wait()
			}
		}
		ask(100)
		require.EqualValues(t, 10, changes.Load(), "at once")
		time.Sleep(250 * time.Millisecond)
		synctest.Wait()
		require.EqualValues(t, 11, changes.Load())
		require.Equal(t, "topic 99", last.Load())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.EqualValues(t, 11, changes.Load(), "only the latest counts")
		for range 100 {
			ask(3)
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		require.InDelta(t, 11+10+50, changes.Load(), 2, "five a second")
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, "topic 2", last.Load())
		tr.stream.Change(wants(make([]string, 1001)...))
		synctest.Wait()
		require.Equal(t, "topic 2", last.Load(), "more than 1,000 are refused before Change is called")
		require.Len(t, conn.take(), int(changes.Load())+2)
		tr.stream.End(delivery.Cut)
	})
}

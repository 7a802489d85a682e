package broadcast_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// departures counts how many of the subscriptions that were made can be reached: what their
// Notify holds stands for a stream and its request.
type departures struct{ made, freed atomic.Int64 }

func (d *departures) notify() func() {
	d.made.Add(1)
	request := new([4096]byte)
	runtime.AddCleanup(request, func(freed *atomic.Int64) { freed.Add(1) }, &d.freed)
	return func() { request[0]++ }
}

func (d *departures) reachable() (n int64) {
	for range 100 {
		runtime.GC()
		if n = d.made.Load() - d.freed.Load(); n == 0 {
			break
		}
		runtime.Gosched()
	}
	return n
}

// After Close nothing of a subscription is reachable, on topics without any message too.
func TestNothingLeadsToAClosedSubscription(t *testing.T) {
	many := func(n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprint("topic ", i))
		}
		return names
	}
	for name, tt := range map[string]struct {
		topics []string
		opts   broadcast.SubscribeOptions
	}{
		"one topic":        {topics: many(1)},
		"several topics":   {topics: many(3)},
		"1,000 topics":     {topics: many(1000)},
		"Last":             {topics: many(3), opts: broadcast.SubscribeOptions{Last: 10}},
		"another log's ID": {topics: many(3), opts: broadcast.SubscribeOptions{After: broadcast.MakeID(7, 7)}},
	} {
		t.Run(name, func(t *testing.T) {
			var hub broadcast.Hub
			buf := make([]*broadcast.Message, 4)
			subscribe := func(notify func()) broadcast.Subscription {
				opts := tt.opts
				opts.Topics, opts.Notify = tt.topics, notify
				sub, err := hub.Subscribe(t.Context(), opts)
				require.NoError(t, err)
				for range 3 {
					sub.Poll(buf)
				}
				return sub
			}
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: tt.topics[0]})
			require.NoError(t, err)
			// Beside clients that stay, so that a list has room.
			var stay []broadcast.Subscription
			for range 30 {
				stay = append(stay, subscribe(func() {}))
			}
			var left departures
			leave := func(subs ...broadcast.Subscription) {
				for _, sub := range subs {
					require.NoError(t, sub.Close())
				}
			}
			for range 40 { // one after the other
				leave(subscribe(left.notify()))
			}
			var peak []broadcast.Subscription // and all at once
			for range 40 {
				peak = append(peak, subscribe(left.notify()))
			}
			leave(peak...)
			peak = nil
			for range 10 { // with other topics than it began with
				sub := subscribe(left.notify())
				require.NoError(t, sub.(broadcast.TopicSetter).SetTopics([]string{"elsewhere", tt.topics[0]}))
				sub.Poll(buf)
				require.NoError(t, sub.(broadcast.TopicSetter).SetTopics([]string{"elsewhere"}))
				sub.Poll(buf)
				leave(sub)
			}
			clear(buf)
			assert.Zero(t, left.reachable(), "closed subscriptions")
			leave(stay...)
			assert.LessOrEqual(t, hub.Stats().Topics, 1, "topics that never had a message")
			runtime.KeepAlive(&hub)
		})
	}
}

// A subscription that is closed while its wake-up is underway is not reachable either.
func TestNothingLeadsToASubscriptionClosedBeforeItsWakeUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var hub broadcast.Hub
	var left departures
	buf := make([]*broadcast.Message, 4)
	subscribe := func(notify func()) broadcast.Subscription {
		sub, err := hub.Subscribe(ctx, broadcast.SubscribeOptions{Topics: []string{"a"}, Notify: notify})
		require.NoError(t, err)
		_, err = sub.Poll(buf)
		require.NoError(t, err)
		return sub
	}
	reached, release := make(chan struct{}), make(chan struct{})
	defer subscribe(func() {
		close(reached)
		<-release
	}).Close()
	var subs []broadcast.Subscription
	for range 100 {
		subs = append(subs, subscribe(left.notify()))
	}
	published := make(chan struct{})
	go func() {
		defer close(published)
		_, err := hub.Publish(ctx, broadcast.Message{Topic: "a"})
		assert.NoError(t, err)
	}()
	await(t, ctx, reached, "the first to be woken")
	for _, sub := range subs {
		require.NoError(t, sub.Close())
	}
	subs = nil
	assert.Zero(t, left.reachable())
	close(release)
	await(t, ctx, published, "the publisher")
	runtime.KeepAlive(&hub)
}

// A subscription that is closed while the engine does not answer about it is not reachable.
func TestNothingLeadsToASubscriptionClosedWhileTheEngineIsSilent(t *testing.T) {
	for _, what := range []string{"a position from elsewhere", "history"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				engine := &broadcasttest.Journal{}
				silent, log := make(chan struct{}), new(tailLog)
				var hang atomic.Bool
				s := newServer(t, engine, log.wrap)
				begin := s.position()
				s.publish("x", texts("", 0, 100)...)
				synctest.Wait()
				log.mu.Lock()
				log.intercept = func(broadcast.Message) error {
					if hang.Load() {
						<-silent
					}
					return nil
				}
				log.mu.Unlock()
				hang.Store(true)
				after := begin
				if what != "history" {
					s.node.Fail(errAway)
					after = broadcast.MakeID(begin.Epoch(), begin.Seq()+1000)
				}
				var left departures
				func() {
					buf := make([]*broadcast.Message, 4)
					for range 50 {
						sub, err := s.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"x", "y"}, After: after, Notify: left.notify()})
						require.NoError(t, err)
						_, err = sub.Poll(buf)
						require.NoError(t, err)
						synctest.Wait()
						require.NoError(t, sub.Close())
					}
				}()
				assert.Zero(t, left.reachable())
				hang.Store(false)
				close(silent)
				s.node.Fail(nil)
				time.Sleep(time.Minute)
				assert.Less(t, s.Stats().Bytes, int64(30_000), "history that nobody waits for")
			})
		})
	}
}

// Nor does a subscription lead to a topic that it had once, and that the Hub has forgotten.
func TestSubscriptionForgetsItsFirstTopic(t *testing.T) {
	hub := broadcast.Hub{TopicTTL: time.Nanosecond}
	sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"first"}})
	require.NoError(t, err)
	defer sub.Close()
	publish := func(topic string) {
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: topic, Data: make([]byte, 1<<10)})
		require.NoError(t, err)
	}
	publish("first")
	_, err = sub.Poll(make([]*broadcast.Message, 4))
	require.NoError(t, err)
	inMemory := hub.InMemory("first")
	require.NoError(t, sub.(broadcast.TopicSetter).SetTopics([]string{"second"}))
	for i := 0; inMemory(); i++ {
		require.Less(t, i, 100, "a topic that was forgotten is still in memory")
		publish("second") // which lets the Hub look for topics to forget
		runtime.GC()
	}
}

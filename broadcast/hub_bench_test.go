package broadcast_test

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// BenchmarkPublish publishes on a topic with subscribers that have been woken and do
// not poll: the cost of a publisher, which does not grow with them.
func BenchmarkPublish(b *testing.B) {
	for _, subscribers := range []int{0, 1, 1_000, 10_000} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			var hub broadcast.Hub
			defer hub.Close()
			for range subscribers {
				benchDrain(b, benchSubscribe(b, &hub, []string{"a"}, func() {}), make([]*broadcast.Message, 1))
			}
			b.ReportAllocs()
			for b.Loop() {
				benchPublish(b, &hub, "a")
			}
		})
	}
}

// BenchmarkDeliver publishes a message to subscribers that are all asleep, waits
// until the last has been woken, and polls each until it sleeps again. That is
// ns/op; ns/publish is the call of Publish alone, with some of the wake-ups in it.
func BenchmarkDeliver(b *testing.B) {
	for _, subscribers := range []int{1, 1_000, 10_000} {
		for _, topics := range []int{1, 2} {
			b.Run(fmt.Sprintf("subscribers=%d/topics=%d", subscribers, topics), func(b *testing.B) {
				var hub broadcast.Hub
				defer hub.Close()
				var awake atomic.Int64
				all := make(chan struct{}, 1)
				buf := make([]*broadcast.Message, 4)
				subs := make([]broadcast.Subscription, subscribers)
				for i := range subs {
					subs[i] = benchSubscribe(b, &hub, benchTopics(topics), func() {
						if awake.Add(1)%int64(subscribers) == 0 {
							all <- struct{}{}
						}
					})
					benchDrain(b, subs[i], buf)
				}
				var publishing time.Duration
				before := allocated()
				for b.Loop() {
					began := time.Now()
					benchPublish(b, &hub, "topic 0")
					publishing += time.Since(began)
					<-all
					for _, sub := range subs {
						if got := benchDrain(b, sub, buf); got != 1 {
							b.Fatalf("%d messages, want 1", got)
						}
					}
				}
				allocs := float64(allocated() - before)
				n := float64(b.N)
				b.ReportMetric(float64(publishing.Nanoseconds())/n, "ns/publish")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n/float64(subscribers), "ns/delivery")
				b.ReportMetric(allocs/n, "allocs/publish")
				b.ReportMetric(allocs/n/float64(subscribers), "allocs/delivery")
			})
		}
	}
}

// BenchmarkPublishWhilePolled publishes while another goroutine polls one
// subscription after the other without a pause, each until it sleeps. The mean
// says little here: one publish in a hundred waits for other goroutines.
func BenchmarkPublishWhilePolled(b *testing.B) {
	for _, bm := range []struct {
		name        string
		subscribers int
		topics      int
		keep        int
	}{
		{"alone", 0, 1, 1 << 16},
		{"subscribers=100/topics=1", 100, 1, 1 << 16},
		{"subscribers=100/topics=10", 100, 10, 1 << 16},
		{"subscribers=1000/topics=1", 1_000, 1, 1 << 16},
		{"subscribers=1000/topics=10", 1_000, 10, 1 << 16},
		{"subscribers=1000/topics=1/overrun", 1_000, 1, 64}, // only this locks what the publisher locks
	} {
		b.Run(bm.name, func(b *testing.B) {
			hub := broadcast.Hub{Keep: bm.keep}
			defer hub.Close()
			var stop atomic.Bool
			var poller sync.WaitGroup
			names := benchTopics(bm.topics)
			subs := make([]broadcast.Subscription, bm.subscribers)
			for i := range subs {
				subs[i] = benchSubscribe(b, &hub, names, func() {})
			}
			poller.Go(func() {
				buf := make([]*broadcast.Message, 64)
				for len(subs) > 0 && !stop.Load() {
					for _, sub := range subs {
						for n, err := 1, error(nil); n > 0 || err != nil; {
							n, err = sub.Poll(buf)
						}
					}
				}
			})
			took := make([]time.Duration, 0, 1<<20)
			for b.Loop() {
				began := time.Now()
				benchPublish(b, &hub, names[len(took)%bm.topics])
				took = append(took, time.Since(began))
			}
			stop.Store(true)
			poller.Wait()
			benchPercentiles(b, took)
			b.ReportMetric(float64(hub.Stats().Gaps), "gaps")
		})
	}
}

// BenchmarkPublishWhileTopicsChange publishes while 8 clients with 1,000 topics change them, or
// come and go, without a pause.
func BenchmarkPublishWhileTopicsChange(b *testing.B) {
	odd, even := benchTopics(2000)[:1000], benchTopics(2000)[1000:]
	for name, client := range map[string]func(hub *broadcast.Hub, sub broadcast.Subscription, names []string) broadcast.Subscription{
		"alone": nil,
		"SetTopics": func(_ *broadcast.Hub, sub broadcast.Subscription, names []string) broadcast.Subscription {
			if err := sub.(broadcast.TopicSetter).SetTopics(names); err != nil {
				b.Error(err)
			}
			return sub
		},
		"Subscribe and Close": func(hub *broadcast.Hub, sub broadcast.Subscription, names []string) broadcast.Subscription {
			sub.Close()
			return benchSubscribe(b, hub, names, func() {})
		},
	} {
		b.Run(name, func(b *testing.B) {
			var hub broadcast.Hub
			defer hub.Close()
			var stop atomic.Bool
			var clients sync.WaitGroup
			for range 8 {
				if client == nil {
					break
				}
				clients.Go(func() {
					buf := make([]*broadcast.Message, 64)
					sub := benchSubscribe(b, &hub, odd, func() {})
					defer func() { sub.Close() }()
					for i := 0; !stop.Load(); i++ {
						names := odd
						if i%2 == 0 {
							names = even
						}
						sub = client(&hub, sub, names)
						sub.Poll(buf)
					}
				})
			}
			took := make([]time.Duration, 0, 1<<20)
			tick := time.NewTicker(time.Millisecond) // publishers that come now and then
			defer tick.Stop()
			for b.Loop() {
				<-tick.C
				began := time.Now()
				benchPublish(b, &hub, "topic 0")
				took = append(took, time.Since(began))
			}
			stop.Store(true)
			clients.Wait()
			benchPercentiles(b, took)
		})
	}
}

// BenchmarkPoll polls what has come in one burst, spread over the subscription's
// topics. The publishing is not measured.
func BenchmarkPoll(b *testing.B) {
	const burst = 256
	for _, topics := range []int{1, 10, 256} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			var hub broadcast.Hub
			defer hub.Close()
			names, buf := benchTopics(topics), make([]*broadcast.Message, 64)
			sub := benchSubscribe(b, &hub, names, func() {})
			benchDrain(b, sub, buf)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for i := range burst {
					benchPublish(b, &hub, names[i%topics])
				}
				b.StartTimer()
				if got := benchDrain(b, sub, buf); got != burst {
					b.Fatalf("%d messages, want %d", got, burst)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*burst), "ns/message")
		})
	}
}

// BenchmarkSleepAndWake publishes on one of a subscription's topics after the
// other, and polls until it sleeps again: with 1,000 topics that must not cost
// much more than with one.
func BenchmarkSleepAndWake(b *testing.B) {
	for _, topics := range []int{1, 2, 10, 100, 1_000} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			var hub broadcast.Hub
			defer hub.Close()
			names, buf := benchTopics(topics), make([]*broadcast.Message, 4)
			sub := benchSubscribe(b, &hub, names, func() {})
			benchDrain(b, sub, buf)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				benchPublish(b, &hub, names[i%topics])
				if got := benchDrain(b, sub, buf); got != 1 {
					b.Fatalf("%d messages, want 1", got)
				}
			}
		})
	}
}

// BenchmarkSubscribe opens a subscription, polls it once and closes it: the cost
// of a client that reconnects, before its first byte.
func BenchmarkSubscribe(b *testing.B) {
	for _, topics := range []int{1, 10, 1_000} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			var hub broadcast.Hub
			defer hub.Close()
			names, buf := benchTopics(topics), make([]*broadcast.Message, 64)
			for _, name := range names {
				benchPublish(b, &hub, name)
			}
			b.ReportAllocs()
			for b.Loop() {
				sub := benchSubscribe(b, &hub, names, func() {})
				if _, err := sub.Poll(buf); err != nil {
					b.Fatal(err)
				}
				sub.Close()
			}
		})
	}
}

// benchPercentiles reports the time that publishing took.
func benchPercentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	for _, p := range []struct {
		name string
		at   float64
	}{{"p50-ns", .5}, {"p99-ns", .99}, {"p99.9-ns", .999}} {
		b.ReportMetric(float64(took[int(float64(len(took))*p.at)].Nanoseconds()), p.name)
	}
}

var benchData = make([]byte, 128)

func benchPublish(b *testing.B, hub *broadcast.Hub, topic string) {
	if _, err := hub.Publish(b.Context(), broadcast.Message{Topic: topic, Data: benchData}); err != nil {
		b.Fatal(err)
	}
}

func benchSubscribe(b *testing.B, hub *broadcast.Hub, topics []string, notify func()) broadcast.Subscription {
	sub, err := hub.Subscribe(b.Context(), broadcast.SubscribeOptions{Topics: topics, Notify: notify})
	require.NoError(b, err)
	return sub
}

func benchTopics(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("topic %d", i)
	}
	return names
}

// benchDrain polls until sub sleeps, and returns how many messages there were.
func benchDrain(b *testing.B, sub broadcast.Subscription, buf []*broadcast.Message) (messages int) {
	for {
		n, err := sub.Poll(buf)
		if err != nil {
			b.Fatal(err)
		}
		if n == 0 {
			return messages
		}
		messages += n
	}
}

// allocated returns how many allocations there have been.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

package broadcast_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// heap returns how many bytes of memory are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

const testedKeepBytes = 8 << 20

// slack is what the Hub's tables take (of tombstones, and of maps that grow), and what
// the allocator rounds up.
const slack = testedKeepBytes / 5

// A Hub takes no more memory than KeepBytes, whatever it keeps.
func TestKeepBytesBoundsMemory(t *testing.T) {
	long := strings.Repeat("long ", 48)
	for name, message := range map[string]func(i int) broadcast.Message{
		"topics with one short message":     func(i int) broadcast.Message { return broadcast.Message{Topic: fmt.Sprint(i), Data: []byte("1234")} },
		"long topics with an empty message": func(i int) broadcast.Message { return broadcast.Message{Topic: fmt.Sprint(long, i)} },
		"short messages on few topics": func(i int) broadcast.Message {
			return broadcast.Message{Topic: fmt.Sprint(i % 500), Data: []byte("1234")}
		},
		"messages of 1 KB": func(i int) broadcast.Message {
			return broadcast.Message{Topic: fmt.Sprint(i % 500), Data: make([]byte, 1000)}
		},
		"types and publishers": func(i int) broadcast.Message {
			return broadcast.Message{Topic: "a", Type: fmt.Sprint("type ", i), From: fmt.Sprint("user ", i)}
		},
		"a large buffer, little of it used": func(i int) broadcast.Message { return broadcast.Message{Topic: "a", Data: make([]byte, 10, 10_000)} },
		"from many small to few large": func(i int) broadcast.Message {
			if i < 60_000 {
				return broadcast.Message{Topic: fmt.Sprint(i % 200), Data: []byte("1")}
			}
			return broadcast.Message{Topic: "large", Data: make([]byte, 20_000)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			hub := broadcast.Hub{KeepBytes: testedKeepBytes, Keep: 1 << 20}
			for i := range 80_000 {
				_, err := hub.Publish(t.Context(), message(i))
				require.NoError(t, err)
			}
			grown, stats := heap()-before, hub.Stats()
			t.Logf("%d KiB for %d messages on %d topics, of which count %d KiB", grown>>10, stats.Messages, stats.Topics, stats.Bytes>>10)
			assert.LessOrEqual(t, stats.Bytes, int64(testedKeepBytes))
			assert.GreaterOrEqual(t, stats.Bytes, int64(testedKeepBytes*9/10), "that it kept so much")
			assert.LessOrEqual(t, grown, int64(testedKeepBytes+slack))
			runtime.KeepAlive(&hub)
		})
	}
}

// After a peak a Hub takes no more memory than one without it.
func TestNothingIsLeftOfAPeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		buf := make([]*broadcast.Message, 4)
		before := heap()
		func() {
			var subs []broadcast.Subscription
			for i := range 20_000 {
				sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"all", fmt.Sprint(i)}})
				require.NoError(t, err)
				_, err = sub.Poll(buf)
				require.NoError(t, err)
				_, err = hub.Publish(t.Context(), broadcast.Message{Topic: fmt.Sprint(i)})
				require.NoError(t, err)
				subs = append(subs, sub)
			}
			for _, sub := range subs {
				require.NoError(t, sub.Close())
			}
		}()
		time.Sleep(time.Hour) // in which nobody calls the Hub
		require.Zero(t, hub.Stats().Topics)
		require.Zero(t, hub.Stats().Bytes)
		assert.LessOrEqual(t, heap()-before, int64(200<<10))
		runtime.KeepAlive(&hub)
	})
}

// What a subscription takes is what the comment on KeepBytes says.
func TestMemoryOfASubscription(t *testing.T) {
	for topics, most := range map[int]int64{1: 400, 100: 400 + 100*150} {
		t.Run(fmt.Sprint(topics), func(t *testing.T) {
			var hub broadcast.Hub
			names, buf := benchTopics(topics), make([]*broadcast.Message, 4)
			subscribe := func() broadcast.Subscription {
				sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: names})
				require.NoError(t, err)
				_, err = sub.Poll(buf)
				require.NoError(t, err)
				return sub
			}
			defer subscribe().Close() // and the topics
			const n = 1000
			subs := make([]broadcast.Subscription, n)
			before := heap()
			for i := range subs {
				subs[i] = subscribe()
			}
			each := (heap() - before) / n
			t.Logf("%d bytes", each)
			assert.LessOrEqual(t, each, most)
			runtime.KeepAlive(subs)
			runtime.KeepAlive(&hub)
		})
	}
}

// A slow reader pins no messages: not those that Last asks for, and not those that follow.
func TestSlowReadersPinNoMessages(t *testing.T) {
	for name, opts := range map[string]broadcast.SubscribeOptions{
		"Last":              {Last: 100},
		"what has come":     {},
		"one of each topic": {Last: 1},
	} {
		t.Run(name, func(t *testing.T) {
			hub := broadcast.Hub{KeepBytes: testedKeepBytes}
			names := benchTopics(100)
			before := heap()
			publish := func() {
				for i := range 3000 {
					_, err := hub.Publish(t.Context(), broadcast.Message{Topic: names[i%100], Data: make([]byte, 8<<10)})
					require.NoError(t, err)
				}
			}
			publish()
			opts.Topics = names
			var subs []broadcast.Subscription
			for range 20 {
				sub, err := hub.Subscribe(t.Context(), opts)
				require.NoError(t, err)
				subs = append(subs, sub)
				sub.Poll(make([]*broadcast.Message, 1))
				publish()
				sub.Poll(make([]*broadcast.Message, 1)) // it has read where each topic goes on
			}
			publish()
			grown := heap() - before
			t.Logf("%d KiB", grown>>10)
			assert.LessOrEqual(t, grown, int64(testedKeepBytes+slack+20*100*150))
			runtime.KeepAlive(subs)
			runtime.KeepAlive(&hub)
		})
	}
}

// History that is read for clients that resume counts as kept, and is bounded.
func TestHistoryIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &broadcasttest.Journal{}
		s := newStoppedServer(t, engine, nil)
		s.Keep, s.KeepBytes = 256, testedKeepBytes
		s.start()
		synctest.Wait()
		begin := s.position()
		text := strings.Repeat("x", 16<<10)
		for range 2000 { // 32 MB
			s.publish("x", text)
		}
		synctest.Wait()
		before := heap()
		var readers []*reader
		for i := range 40 {
			r := s.subscribe(broadcast.SubscribeOptions{Topics: []string{"x"}, After: broadcast.MakeID(begin.Epoch(), begin.Seq()+uint64(1700+i%4))})
			time.Sleep(time.Second)
			require.LessOrEqual(t, s.Stats().Bytes, int64(testedKeepBytes))
			readers = append(readers, r)
		}
		assert.LessOrEqual(t, heap()-before, int64(testedKeepBytes/4+slack), "a quarter of KeepBytes")
		gaps, kept := 0, s.Stats().Bytes
		for _, r := range readers {
			if got := r.poll(); len(got) > 0 && got[0] == "gap" {
				gaps++
			}
			r.sub.Close()
		}
		assert.NotZero(t, gaps, "those whose history did not fit")
		assert.Less(t, gaps, len(readers))
		assert.Less(t, s.Stats().Bytes, kept, "history that has been returned does not count")
		far := s.subscribe(broadcast.SubscribeOptions{Topics: []string{"x"}, After: begin})
		time.Sleep(time.Second)
		require.Equal(t, "gap", far.poll()[0])
	})
}

// A Hub that nobody has any more goes, though its topics have still to expire.
func TestForgottenHubIsFreed(t *testing.T) {
	freed := make(chan struct{})
	func() {
		hub := new(broadcast.Hub)
		runtime.AddCleanup(hub, func(int) { close(freed) }, 0)
		_, err := hub.Publish(t.Context(), broadcast.Message{Topic: fmt.Sprint(rand.Int())})
		require.NoError(t, err)
	}()
	for range 100 {
		runtime.GC()
		select {
		case <-freed:
			return
		default:
			runtime.Gosched()
		}
	}
	require.Fail(t, "the Hub is still in memory")
}

// Unused topics expire while nobody calls the Hub, after TopicTTL.
func TestTopicsExpireOnAQuietHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := broadcast.Hub{TopicTTL: time.Minute}
		sub, err := hub.Subscribe(t.Context(), broadcast.SubscribeOptions{Topics: []string{"in use"}})
		require.NoError(t, err)
		for _, name := range []string{"in use", "a", "b", "c"} {
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: name})
			require.NoError(t, err)
			time.Sleep(20 * time.Second)
		}
		for _, want := range []int{3, 2, 1, 1} {
			synctest.Wait()
			assert.Equal(t, want, hub.Stats().Topics)
			time.Sleep(20 * time.Second)
		}
		require.NoError(t, sub.Close())
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Zero(t, hub.Stats().Topics)
	})
}

package redisjournal_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

// BenchmarkDeliver measures messages from publishers on one node to a subscriber on another.
// Each node reads the whole stream. A bare node is a go-redis client with a loop of XADD, and
// one of XREAD that ignores what it gets. CPU is that of this process, so of all nodes with
// their publishers, and that of the engine.
func BenchmarkDeliver(b *testing.B) {
	client := startBenchmarkServer(b)
	for _, n := range []int{1, publishers} {
		b.Run(fmt.Sprintf("hubs/%d publishers", n), func(b *testing.B) { benchmarkDeliver(b, client, n, openHubs(b, client, 2)) })
		b.Run(fmt.Sprintf("bare/%d publishers", n), func(b *testing.B) { benchmarkDeliver(b, client, n, openBare(b, client, 2)) })
	}
	b.Run(fmt.Sprintf("bare/pipelines of %d", publishers), func(b *testing.B) {
		benchmarkDeliver(b, client, 1, pipelined{openBare(b, client, 2)})
	})
}

// BenchmarkNodes measures what a message costs the engine with one node and with 20. The one
// publisher waits for each message.
func BenchmarkNodes(b *testing.B) {
	client := startBenchmarkServer(b)
	for _, n := range []int{1, 20} {
		b.Run(fmt.Sprintf("hubs/%d nodes", n), func(b *testing.B) { benchmarkDeliver(b, client, 1, openHubs(b, client, n)) })
		b.Run(fmt.Sprintf("bare/%d nodes", n), func(b *testing.B) { benchmarkDeliver(b, client, 1, openBare(b, client, n)) })
	}
}

// nodes are the nodes of a benchmark. The first of them publishes, and the last counts.
type nodes interface {
	publish(ctx context.Context, i int) error
	flush(ctx context.Context) error
	delivered() int64
}

func benchmarkDeliver(b *testing.B, client *redis.Client, publishers int, n nodes) {
	var published atomic.Int64
	var publishing sync.WaitGroup
	engine, node := engineTime(b, client), nodeTime(b)
	b.ResetTimer()
	for range publishers {
		publishing.Go(func() {
			for i := published.Add(1); i <= int64(b.N); i = published.Add(1) {
				if err := n.publish(b.Context(), int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	publishing.Wait()
	require.NoError(b, n.flush(b.Context()))
	for began := time.Now(); n.delivered() < int64(b.N); runtime.Gosched() {
		if time.Since(began) > patience {
			b.Fatalf("%d of %d messages were delivered", n.delivered(), b.N)
		}
	}
	b.StopTimer()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64((nodeTime(b)-node).Microseconds())/float64(b.N), "node-us/msg")
	b.ReportMetric(float64((engineTime(b, client)-engine).Microseconds())/float64(b.N), "engine-us/msg")
}

// nodeTime returns the CPU time of this process.
func nodeTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// engineTime returns the CPU time of the engine.
func engineTime(b *testing.B, client *redis.Client) (total time.Duration) {
	info, err := client.Info(context.Background(), "cpu").Result()
	require.NoError(b, err)
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			seconds, err := strconv.ParseFloat(value, 64)
			require.NoError(b, err)
			total += time.Duration(seconds * float64(time.Second))
		}
	}
	return total
}

// hubs are nodes with a Hub.
type hubs struct {
	first *broadcast.Hub
	count atomic.Int64
}

func openHubs(b *testing.B, client *redis.Client, n int) *hubs {
	require.NoError(b, client.FlushAll(b.Context()).Err())
	h := new(hubs)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	b.Cleanup(func() {
		cancel()
		running.Wait()
	})
	for i := range n {
		hub := &broadcast.Hub{Keep: 65_536, Journal: &redisjournal.Journal{Client: client, Logger: quiet()}, Logger: slog.New(slog.DiscardHandler)}
		running.Go(func() { _ = hub.Run(ctx) })
		require.Eventually(b, func() bool { return hub.Stats().Following }, patience, 5*time.Millisecond)
		if i == 0 {
			h.first = hub
		}
		if i == n-1 {
			notified := make(chan struct{}, 1)
			sub, err := hub.Subscribe(ctx, broadcast.SubscribeOptions{Topics: []string{"a"}, Notify: func() {
				select {
				case notified <- struct{}{}:
				default:
				}
			}})
			require.NoError(b, err)
			running.Go(func() { h.subscribe(ctx, sub, notified) })
		}
	}
	return h
}

// subscribe counts messages until ctx ends.
func (h *hubs) subscribe(ctx context.Context, sub broadcast.Subscription, notified <-chan struct{}) {
	defer sub.Close()
	buf := make([]*broadcast.Message, 512)
	for {
		n, err := sub.Poll(buf)
		h.count.Add(int64(n))
		if n > 0 && err == nil {
			continue
		}
		select {
		case <-notified:
		case <-ctx.Done():
			return
		}
	}
}

func (h *hubs) publish(ctx context.Context, _ int) error {
	_, err := h.first.Publish(ctx, broadcast.Message{Topic: "a", Data: payload})
	return err
}

func (h *hubs) flush(context.Context) error { return nil }

func (h *hubs) delivered() int64 { return h.count.Load() }

// bare are nodes that are nothing but go-redis.
type bare struct {
	client *redis.Client
	count  atomic.Int64
	pipe   redis.Pipeliner
}

func openBare(b *testing.B, client *redis.Client, n int) *bare {
	require.NoError(b, client.FlushAll(b.Context()).Err())
	s := &bare{client: client, pipe: client.Pipeline()}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	readers := redis.NewClient(&redis.Options{Addr: client.Options().Addr, ContextTimeoutEnabled: true})
	b.Cleanup(func() {
		cancel()
		readers.Close()
		running.Wait()
	})
	for i := range n {
		running.Go(func() {
			for last := "0"; ctx.Err() == nil; {
				streams, err := readers.XRead(ctx, &redis.XReadArgs{Streams: []string{"bare", last}, Count: 4096, Block: time.Second}).Result()
				if err != nil {
					continue
				}
				messages := streams[0].Messages
				last = messages[len(messages)-1].ID
				if i == n-1 {
					s.count.Add(int64(len(messages)))
				}
			}
		})
	}
	return s
}

func (s *bare) args() *redis.XAddArgs {
	return &redis.XAddArgs{Stream: "bare", MaxLen: 100_000, Approx: true, Values: []any{"topic", "a", "data", payload}}
}

func (s *bare) publish(ctx context.Context, _ int) error { return s.client.XAdd(ctx, s.args()).Err() }

func (s *bare) flush(context.Context) error { return nil }

func (s *bare) delivered() int64 { return s.count.Load() }

// pipelined are bare nodes that publish in pipelines and wait for each of these.
type pipelined struct{ *bare }

func (s pipelined) publish(ctx context.Context, i int) error {
	s.pipe.XAdd(ctx, s.args())
	if i%publishers == 0 {
		return s.flush(ctx)
	}
	return nil
}

func (s pipelined) flush(ctx context.Context) error {
	_, err := s.pipe.Exec(ctx)
	return err
}

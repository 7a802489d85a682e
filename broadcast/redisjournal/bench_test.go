package redisjournal_test

import (
	"context"
	"log/slog"
	"net"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

const publishers = 512

// BenchmarkPublish measures Hub.Publish, which waits for the engine, from one goroutine and from
// 512. It compares them with one client that sends pipelines of 512.
func BenchmarkPublish(b *testing.B) {
	client := startBenchmarkServer(b)
	b.Run("engine, pipelines of 512", func(b *testing.B) {
		pipeline := client.Pipeline()
		for b.Loop() {
			pipeline.XAdd(b.Context(), &redis.XAddArgs{Stream: "bare", MaxLen: 100_000, Approx: true, Values: []any{"topic", "a", "type", "", "from", "", "data", payload, "binary", ""}})
			if pipeline.Len() == publishers {
				_, err := pipeline.Exec(b.Context())
				require.NoError(b, err)
			}
		}
		_, err := pipeline.Exec(b.Context())
		require.NoError(b, err)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	})
	b.Run("hub, one goroutine", func(b *testing.B) {
		hub := openHub(b, client)
		for b.Loop() {
			_, err := hub.Publish(b.Context(), broadcast.Message{Topic: "a", Data: payload})
			require.NoError(b, err)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	})
	b.Run("hub, 512 goroutines", func(b *testing.B) {
		hub := openHub(b, client)
		b.SetParallelism(publishers / 2)
		b.ResetTimer()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := hub.Publish(b.Context(), broadcast.Message{Topic: "a", Data: payload}); err != nil {
					b.Error(err)
					return
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	})
}

var payload = make([]byte, 128)

// startBenchmarkServer starts a Redis that writes nothing to disk, and returns a client.
func startBenchmarkServer(b *testing.B) *redis.Client {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		b.Skip("redis-server is not installed")
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	address := free.Addr().String()
	require.NoError(b, free.Close())
	_, port, _ := net.SplitHostPort(address)
	process := exec.Command(program, "--port", port, "--bind", "127.0.0.1", "--dir", b.TempDir(), "--save", "", "--logfile", "log")
	require.NoError(b, process.Start())
	client := redis.NewClient(&redis.Options{Addr: address})
	b.Cleanup(func() {
		client.Close()
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	require.Eventually(b, func() bool { return client.Ping(b.Context()).Err() == nil }, patience, 5*time.Millisecond)
	return client
}

// openHub returns a Hub that follows the stream until the benchmark ends.
func openHub(b *testing.B, client *redis.Client) *broadcast.Hub {
	hub := &broadcast.Hub{Journal: &redisjournal.Journal{Client: client}, Logger: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	b.Cleanup(func() {
		cancel()
		running.Wait()
	})
	require.Eventually(b, func() bool { return hub.Stats().Following }, patience, 5*time.Millisecond)
	return hub
}

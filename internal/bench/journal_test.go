package main

import (
	"context"
	"log/slog"
	"net"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge"
	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

// BenchmarkPublish compares the cost of publishing to a log that several servers share. Each
// call returns once Redis has the message. The history has 100,000 messages.
func BenchmarkPublish(b *testing.B) {
	client := startRedis(b)
	payload := payload(128)
	for _, p := range []struct {
		name string
		open func(b *testing.B) (publish func(payload []byte) error, stop func())
	}{
		{"in memory", openInMemory},
		{"fanfare on Redis", func(b *testing.B) (func([]byte) error, func()) { return openFanfare(b, client) }},
		{"centrifuge on Redis", func(b *testing.B) (func([]byte) error, func()) { return openCentrifuge(b, client.Options().Addr) }},
	} {
		b.Run(p.name+"/one goroutine", func(b *testing.B) {
			publish, stop := p.open(b)
			defer stop()
			for b.Loop() {
				if err := publish(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(p.name+"/512 goroutines", func(b *testing.B) {
			publish, stop := p.open(b)
			defer stop()
			b.SetParallelism(256)
			b.RunParallel(func(each *testing.PB) {
				for each.Next() {
					if err := publish(payload); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// startRedis starts a Redis that writes nothing to disk, and returns a client.
func startRedis(b *testing.B) *redis.Client {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		b.Skip("redis-server is not installed")
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(address)
	server := exec.Command(program, "--port", port, "--bind", "127.0.0.1", "--dir", b.TempDir(), "--save", "", "--logfile", "log")
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: address})
	b.Cleanup(func() {
		client.Close()
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	until(b, func() bool { return client.Ping(b.Context()).Err() == nil })
	return client
}

func openInMemory(*testing.B) (publish func([]byte) error, stop func()) {
	hub := &broadcast.Hub{Keep: 100_000}
	return hubPublish(hub), func() { hub.Close() }
}

func openFanfare(b *testing.B, client *redis.Client) (publish func([]byte) error, stop func()) {
	hub := &broadcast.Hub{Journal: &redisjournal.Journal{Client: client}, Logger: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	until(b, func() bool { return hub.Stats().Following })
	return hubPublish(hub), func() {
		cancel()
		running.Wait()
	}
}

func openCentrifuge(b *testing.B, address string) (publish func([]byte) error, stop func()) {
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelNone})
	if err != nil {
		b.Fatal(err)
	}
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: address})
	if err != nil {
		b.Fatal(err)
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: []*centrifuge.RedisShard{shard}})
	if err != nil {
		b.Fatal(err)
	}
	node.SetBroker(broker)
	if err := node.Run(); err != nil {
		b.Fatal(err)
	}
	return func(payload []byte) error {
		_, err := node.Publish("a", payload, centrifuge.WithHistory(100_000, time.Hour))
		return err
	}, func() { _ = node.Shutdown(context.Background()) }
}

func hubPublish(hub *broadcast.Hub) func([]byte) error {
	return func(payload []byte) error {
		_, err := hub.Publish(context.Background(), broadcast.Message{Topic: "a", Data: payload})
		return err
	}
}

// until waits until a condition holds.
func until(b *testing.B, condition func() bool) {
	for began := time.Now(); !condition(); {
		if time.Since(began) > 10*time.Second {
			b.Fatal("a server does not start")
		}
	}
}

package natsjournal_test

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

const publishers = 512

// BenchmarkPublish measures Hub.Publish, which waits for the engine, from one goroutine and
// from 512. It compares them with one client that publishes without waiting. The Hub also
// reads the stream, which costs the engine about as much as an append; therefore the bare
// client is measured with and without a consumer.
func BenchmarkPublish(b *testing.B) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: b.TempDir(), NoSigs: true, NoLog: true})
	require.NoError(b, err)
	s.Start()
	require.True(b, s.ReadyForConnections(soon))
	defer func() {
		s.Shutdown()
		s.WaitForShutdown()
	}()
	url := s.ClientURL()
	b.Run("engine, asynchronous", func(b *testing.B) { publishBare(b, url, 0) })
	b.Run("engine, asynchronous, with a consumer", func(b *testing.B) { publishBare(b, url, 1) })
	b.Run("hub, one goroutine", func(b *testing.B) {
		hub := openHub(b, url)
		for b.Loop() {
			_, err := hub.Publish(b.Context(), broadcast.Message{Topic: "a", Data: payload})
			require.NoError(b, err)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	})
	b.Run("hub, 512 goroutines", func(b *testing.B) {
		hub := openHub(b, url)
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

// publishBare measures a client that publishes without waiting for each acknowledgement,
// while consumers read the stream.
func publishBare(b *testing.B, url string, consumers int) {
	conn, err := nats.Connect(url)
	require.NoError(b, err)
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(1<<20))
	require.NoError(b, err)
	stream, err := js.CreateOrUpdateStream(b.Context(), jetstream.StreamConfig{Name: "bare", Subjects: []string{"bare"}, MaxMsgs: 1_000_000})
	require.NoError(b, err)
	for range consumers {
		consumer, err := stream.OrderedConsumer(b.Context(), jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
		require.NoError(b, err)
		consuming, err := consumer.Consume(func(jetstream.Msg) {})
		require.NoError(b, err)
		defer consuming.Stop()
	}
	for i := 0; b.Loop(); i++ {
		m := nats.NewMsg("bare") // with the header of a Journal's entry
		m.Data = payload
		m.Header.Set("Fanfare-Topic", "a")
		_, err := js.PublishMsgAsync(m, jetstream.WithMsgID(strconv.Itoa(i)))
		require.NoError(b, err)
	}
	<-js.PublishAsyncComplete()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// openHub returns a Hub that follows the stream until the benchmark ends.
func openHub(b *testing.B, url string) *broadcast.Hub {
	conn, err := nats.Connect(url)
	require.NoError(b, err)
	hub := &broadcast.Hub{Journal: &natsjournal.Journal{Conn: conn}, Keep: 1 << 20, Logger: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	b.Cleanup(func() {
		cancel()
		running.Wait()
		conn.Close()
	})
	require.Eventually(b, func() bool { return hub.Stats().Following }, soon, moment)
	return hub
}

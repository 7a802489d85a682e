package broadcast_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// BenchmarkPublish publishes on a topic with subscribers that have been woken and do
// not poll: what a publisher pays, however many there are.
func BenchmarkPublish(b *testing.B) {
	for _, subscribers := range []int{0, 1, 1_000, 10_000} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			var hub broadcast.Hub
			defer hub.Close()
			buf := make([]*broadcast.Message, 1)
			for range subscribers {
				sub, err := hub.Subscribe(b.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}, Notify: func() {}})
				require.NoError(b, err)
				_, err = sub.Poll(buf)
				require.NoError(b, err)
			}
			m := broadcast.Message{Topic: "a", Data: []byte("x")}
			b.ReportAllocs()
			for b.Loop() {
				hub.Publish(b.Context(), m)
			}
		})
	}
}

// BenchmarkDeliver publishes a message and polls it from each of the subscribers,
// which go to sleep again: a publish, a wake-up and two polls for each delivery.
func BenchmarkDeliver(b *testing.B) {
	for _, subscribers := range []int{1, 1_000, 10_000} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			var hub broadcast.Hub
			defer hub.Close()
			buf := make([]*broadcast.Message, 4)
			subs := make([]broadcast.Subscription, subscribers)
			for i := range subs {
				var err error
				subs[i], err = hub.Subscribe(b.Context(), broadcast.SubscribeOptions{Topics: []string{"a"}, Notify: func() {}})
				require.NoError(b, err)
			}
			m := broadcast.Message{Topic: "a", Data: []byte("x")}
			b.ReportAllocs()
			for b.Loop() {
				hub.Publish(b.Context(), m)
				for _, sub := range subs {
					for {
						if n, _ := sub.Poll(buf); n == 0 {
							break
						}
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*subscribers), "ns/delivery")
		})
	}
}

package broadcast_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// benchKeys returns a Hub with so many Keys on the topic "a", and the Keys.
func benchKeys(b *testing.B, n int) (*broadcast.Hub, []string) {
	hub := new(broadcast.Hub)
	b.Cleanup(func() { hub.Close() })
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%d", i)
		benchSet(b, hub, keys[i])
	}
	return hub, keys
}

func benchSet(b *testing.B, hub *broadcast.Hub, key string) {
	if _, err := hub.Publish(b.Context(), broadcast.Message{Topic: "a", Key: key, Data: benchData}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPublishKey sets one Key after the other; 0 is an event.
func BenchmarkPublishKey(b *testing.B) {
	for _, n := range []int{0, 100, 10_000} {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			hub, keys := benchKeys(b, max(n, 1))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if n == 0 {
					benchPublish(b, hub, "b")
				} else {
					benchSet(b, hub, keys[i*7919%n])
				}
			}
		})
	}
}

// BenchmarkPollKeys polls a topic of 10,000 Keys of which some have changed.
func BenchmarkPollKeys(b *testing.B) {
	hub, keys := benchKeys(b, 10_000)
	buf := make([]*broadcast.Message, 64)
	for _, changed := range []int{0, 1, 64, 65, 1000, 10_000} {
		b.Run(fmt.Sprintf("changed=%d", changed), func(b *testing.B) {
			sub := benchSubscribe(b, hub, []string{"a"}, func() {})
			defer sub.Close()
			benchDrain(b, sub, buf)
			b.ReportAllocs()
			for b.Loop() {
				if changed > 0 {
					b.StopTimer()
					for i := range changed {
						benchSet(b, hub, keys[i*7919%len(keys)])
					}
					b.StartTimer()
				}
				if got := benchDrain(b, sub, buf); got != changed {
					b.Fatalf("%d messages, want %d", got, changed)
				}
			}
		})
	}
}

// BenchmarkBegin subscribes with Beginning to a topic of 10,000 Keys: until the first messages are
// there, and until the beginning is complete.
func BenchmarkBegin(b *testing.B) {
	hub, keys := benchKeys(b, 10_000)
	buf := make([]*broadcast.Message, 64)
	for _, all := range []bool{false, true} {
		b.Run(fmt.Sprintf("all=%v", all), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sub, err := hub.Subscribe(context.Background(), broadcast.SubscribeOptions{Topics: []string{"a"}, Beginning: true})
				require.NoError(b, err)
				n, err := sub.Poll(buf)
				if !errors.Is(err, broadcast.ErrBegin) || n != len(buf) {
					b.Fatalf("%d messages, error %v", n, err)
				}
				if all && n+benchDrain(b, sub, buf) != len(keys) {
					b.Fatal("not all Keys")
				}
				sub.Close()
			}
		})
	}
}

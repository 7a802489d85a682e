package delivery_test

import (
	"fmt"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

// busy is a Conn each of whose writes takes its time on a processor, as a system call does, and
// no lock.
type busy struct {
	takes time.Duration
	*fan
}

// fan counts the writes that are left of a message to all streams.
type fan struct {
	left atomic.Int64
	all  chan struct{}
}

func (c busy) Write(net.Buffers, *delivery.Worker) error {
	for began := time.Now(); c.takes > 0 && time.Since(began) < c.takes; {
	}
	if c.left.Add(-1) == 0 {
		c.all <- struct{}{}
	}
	return nil
}

func (busy) Beat(*delivery.Worker) error { return nil }
func (busy) Tick() time.Duration         { return 0 }
func (busy) Closing()                    {}
func (busy) Cut()                        {}
func (busy) End(delivery.Reason)         {}

// BenchmarkFanOut publishes to a thousand idle streams, and waits until each has written: what
// the streams of a Hub share shows as the difference between -cpu 1 and -cpu 2, and in a profile
// of the locks.
func BenchmarkFanOut(b *testing.B) {
	const streams = 1000
	for _, takes := range []time.Duration{0, 5 * time.Microsecond} {
		b.Run(fmt.Sprintf("write=%v", takes), func(b *testing.B) {
			var hub broadcast.Hub
			e := engine(&hub, nil)
			conn := busy{takes, &fan{all: make(chan struct{}, 1)}}
			lines := codec(true)
			for range streams {
				tr := &transport{mode: delivery.Mode{Codec: lines, Detached: true}}
				tr.begin = func(o *delivery.Opening) error { o.Start(conn, nil, 0); return nil }
				e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), tr)
			}
			deliver := func() {
				conn.left.Store(streams)
				_, err := hub.Publish(b.Context(), broadcast.Message{Topic: "a", Data: []byte("x")})
				require.NoError(b, err)
				<-conn.all
			}
			deliver()
			for b.Loop() {
				deliver()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/streams, "ns/delivery")
			require.NoError(b, hub.Close())
		})
	}
}

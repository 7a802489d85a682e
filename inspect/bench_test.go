package inspect_test

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/inspect"
)

// BenchmarkPublish measures Publish on a Hub with 10,000 topics, while nobody and while ten
// pages of topics are read one after the other, each twenty times a second.
func BenchmarkPublish(b *testing.B) {
	const topics = 10_000
	names := make([]string, topics)
	for i := range names {
		names[i] = fmt.Sprintf("topic %05d", i)
	}
	for _, pages := range []int{0, 10} {
		b.Run(fmt.Sprint("pages=", pages), func(b *testing.B) {
			hub := &broadcast.Hub{Keep: 4, Logger: silent}
			defer hub.Close()
			for _, name := range names {
				_, _ = hub.Publish(b.Context(), broadcast.Message{Topic: name, Data: []byte("x")})
			}
			h := &inspect.Handler{Hubs: map[string]*broadcast.Hub{"main": hub}}
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				ticker := time.NewTicker(50 * time.Millisecond)
				defer ticker.Stop()
				for {
					select {
					case <-stop:
						return
					case <-ticker.C:
					}
					for i := range pages {
						h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/?show=topics&hub=main&after="+fmt.Sprintf("topic+%05d", i*topics/10), nil))
					}
				}
			}()
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				began := time.Now()
				_, _ = hub.Publish(b.Context(), broadcast.Message{Topic: names[i%topics], Data: []byte("x")})
				took = append(took, time.Since(began))
			}
			close(stop)
			<-stopped
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
			b.ReportMetric(float64(took[len(took)*999/1000].Nanoseconds()), "p99.9-ns")
			b.ReportMetric(float64(took[len(took)-1].Nanoseconds()), "max-ns")
		})
	}
}

package filejournal_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/filejournal"
)

const benchSize = 128 // bytes of Data

// BenchmarkPublish measures Hub.Publish from 512 goroutines: synced in groups, beside a bare loop
// that writes and syncs groups of the same number and size, and with SyncEvery.
func BenchmarkPublish(b *testing.B) {
	b.Run("synced", func(b *testing.B) {
		j := &filejournal.Journal{Dir: b.TempDir()}
		perGroup := publishFrom(b, j, 512)
		b.StopTimer()
		rate := float64(b.N) / b.Elapsed().Seconds()
		bare := bareRate(b, int(perGroup))
		b.ReportMetric(rate, "messages/s")
		b.ReportMetric(perGroup, "messages/sync")
		b.ReportMetric(rate/bare, "of-bare")
	})
	b.Run("interval", func(b *testing.B) {
		publishFrom(b, &filejournal.Journal{Dir: b.TempDir(), SyncEvery: 100 * time.Millisecond}, 512)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	})
	b.Run("one goroutine, synced", func(b *testing.B) {
		publishFrom(b, &filejournal.Journal{Dir: b.TempDir()}, 1)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	})
}

// counted counts the groups that a Hub appends.
type counted struct {
	*filejournal.Journal
	groups atomic.Int64
}

func (c *counted) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	c.groups.Add(1)
	return c.Journal.Append(ctx, ms...)
}

// publishFrom publishes b.N messages from so many goroutines, and returns how many a group had.
func publishFrom(b *testing.B, j *filejournal.Journal, goroutines int) (perGroup float64) {
	c := &counted{Journal: j}
	hub := &broadcast.Hub{Journal: c}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { hub.Run(ctx) })
	data := bytes.Repeat([]byte("x"), benchSize)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var publishers sync.WaitGroup
	for p := range goroutines {
		topic := fmt.Sprint("topic/", p%64)
		publishers.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := hub.Publish(ctx, broadcast.Message{Topic: topic, Data: data}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	publishers.Wait()
	b.StopTimer()
	cancel()
	running.Wait()
	require.NoError(b, hub.Close())
	require.NoError(b, j.Close())
	return float64(b.N) / float64(max(1, c.groups.Load()))
}

// bareRate returns how many messages a second a loop writes that syncs each group.
func bareRate(b *testing.B, perGroup int) float64 {
	f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	require.NoError(b, err)
	defer f.Close()
	group := bytes.Repeat([]byte("x"), max(1, perGroup)*(benchSize+46)) // as much as a record has
	began, n := time.Now(), 0
	for time.Since(began) < time.Second {
		_, err := f.Write(group)
		require.NoError(b, err)
		require.NoError(b, f.Sync())
		n += perGroup
	}
	return float64(n) / time.Since(began).Seconds()
}

// BenchmarkStart measures a start on a log of 1 GiB: until it is open, until a Hub has its messages
// and a resumed client its first one. A tenth of the messages are values of 10,000 Keys.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	makeLog(b, dir, 1<<30)
	var opened, warmed, resumed time.Duration
	var heap uint64
	for b.Loop() {
		began := time.Now()
		j := &filejournal.Journal{Dir: dir, MaxBytes: 2 << 30}
		_, newest, err := j.Bounds(b.Context())
		require.NoError(b, err)
		opened += time.Since(began)

		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		began = time.Now()
		hub := &broadcast.Hub{Journal: j}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { hub.Run(ctx) })
		require.NoError(b, hub.Ready(b.Context()))
		warmed += time.Since(began)

		began = time.Now()
		sub, err := hub.Subscribe(ctx, broadcast.SubscribeOptions{
			Topics: []string{"topic/1"}, After: broadcast.MakeID(newest.Epoch(), newest.Seq()-15_000)})
		require.NoError(b, err)
		buf := make([]*broadcast.Message, 16)
		for {
			n, err := sub.Poll(buf)
			require.NoError(b, err)
			if n > 0 {
				break
			}
			runtime.Gosched()
		}
		resumed += time.Since(began)
		sub.Close()
		runtime.GC()
		runtime.ReadMemStats(&after)
		heap = after.HeapAlloc - before.HeapAlloc
		cancel()
		running.Wait()
		require.NoError(b, hub.Close())
		require.NoError(b, j.Close())
	}
	b.ReportMetric(opened.Seconds()*1000/float64(b.N), "ms-until-open")
	b.ReportMetric(warmed.Seconds()*1000/float64(b.N), "ms-until-warm")
	b.ReportMetric(resumed.Seconds()*1000/float64(b.N), "ms-until-resumed")
	b.ReportMetric(float64(heap)/(1<<20), "MiB")
}

func makeLog(b *testing.B, dir string, size int64) {
	j := &filejournal.Journal{Dir: dir, MaxBytes: 2 << 30, SyncEvery: -1}
	ms := make([]broadcast.Message, 512)
	data := bytes.Repeat([]byte("x"), 256)
	for n := int64(0); n*300 < size; n += int64(len(ms)) {
		for i := range ms {
			ms[i] = broadcast.Message{Topic: fmt.Sprint("topic/", i%64), Data: data}
			if i%10 == 0 {
				ms[i] = broadcast.Message{Topic: "values", Key: fmt.Sprint("key/", (int(n)+i)%10_000), Data: data}
			}
		}
		_, err := j.Append(b.Context(), ms...)
		require.NoError(b, err)
	}
	require.NoError(b, filejournal.Tidy(j))
	require.NoError(b, j.Close())
}

package abuse_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stock is what a process has of the things that clients can make it keep.
type stock struct {
	goroutines int
	heap       int64
	files      int // open descriptors; 0 where there is no /proc
}

// How much more there may be afterwards.
const (
	spareGoroutines = 2       // testify's Eventually
	spareHeap       = 3 << 20 // messages that the hub keeps, their encoded forms, and maps that do not shrink
	spareFiles      = 0
)

func takeStock() stock {
	runtime.GC()
	runtime.GC() // empties the pools
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	files, _ := os.ReadDir("/proc/self/fd")
	return stock{runtime.NumGoroutine(), int64(memory.HeapAlloc), len(files)}
}

func (s stock) String() string {
	return fmt.Sprintf("%d goroutines, %d KiB of heap, %d files", s.goroutines, s.heap>>10, s.files)
}

// isBack waits until the process has no more than before, but for the spare.
func isBack(t *testing.T, before stock) {
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		now := takeStock()
		assert.LessOrEqual(c, now.goroutines, before.goroutines+spareGoroutines, "goroutines are left")
		assert.LessOrEqual(c, now.heap, before.heap+spareHeap, "memory is left")
		assert.LessOrEqual(c, now.files, before.files+spareFiles, "files are left open")
	}, 20*time.Second, 20*time.Millisecond)
	t.Logf("before: %v; after: %v", before, takeStock())
}

// costs waits until each of n open clients costs at most so many bytes of heap, and logs
// how many it costs.
func costs(t *testing.T, what string, before stock, n int, most int64) {
	var now stock
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		now = takeStock()
		assert.LessOrEqual(c, (now.heap-before.heap)/int64(n), most, "bytes of heap for each of %d", n)
	}, 10*time.Second, 20*time.Millisecond, what)
	t.Logf("%s: %d bytes of heap and %.1f goroutines for each of %d", what, (now.heap-before.heap)/int64(n), float64(now.goroutines-before.goroutines)/float64(n), n)
}

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

// stock is what a process has that clients could make it keep.
type stock struct {
	goroutines int
	heap       int64
	files      int // open descriptors; 0 where /proc does not tell
}

// What there may be more afterwards.
const (
	spareGoroutines = 2       // testify's own, which looks
	spareHeap       = 3 << 20 // the hub keeps messages of the test, the handlers their wire forms, and maps the room they had
	spareFiles      = 0
)

func takeStock() stock {
	runtime.GC()
	runtime.GC() // pools let go of what they have only now
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	files, _ := os.ReadDir("/proc/self/fd")
	return stock{runtime.NumGoroutine(), int64(memory.HeapAlloc), len(files)}
}

func (s stock) String() string {
	return fmt.Sprintf("%d goroutines, %d KiB of heap, %d files", s.goroutines, s.heap>>10, s.files)
}

// isBack waits until the process has no more than before.
func isBack(t *testing.T, before stock) {
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		now := takeStock()
		assert.LessOrEqual(c, now.goroutines, before.goroutines+spareGoroutines, "goroutines are left")
		assert.LessOrEqual(c, now.heap, before.heap+spareHeap, "memory is left")
		assert.LessOrEqual(c, now.files, before.files+spareFiles, "files are left open")
	}, 20*time.Second, 20*time.Millisecond)
	t.Logf("before: %v; after: %v", before, takeStock())
}

// costs wants each of n clients to take at most so many bytes of heap while it is there,
// and says how many these are.
func costs(t *testing.T, what string, before stock, n int, most int64) {
	var now stock
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		now = takeStock()
		assert.LessOrEqual(c, (now.heap-before.heap)/int64(n), most, "bytes of heap for each of %d", n)
	}, 10*time.Second, 20*time.Millisecond, what)
	t.Logf("%s: %d bytes of heap and %.1f goroutines for each of %d", what, (now.heap-before.heap)/int64(n), float64(now.goroutines-before.goroutines)/float64(n), n)
}

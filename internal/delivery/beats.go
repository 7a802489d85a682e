package delivery

import (
	"sync/atomic"
	"time"
)

// beats decides when a heartbeat is due: once nothing was written for an interval.
type beats struct {
	interval time.Duration // 0: no heartbeats. Set before the stream starts
	always   bool          // each heartbeat sends the position, also if it has not moved. Likewise

	due   atomic.Bool  // set by the clock, cleared by the writer
	wrote atomic.Int64 // when something was written last, on the engine's clock. Set by the writer
}

// silence returns for how long nothing has been written.
func (b *beats) silence(now time.Duration) time.Duration {
	return now - time.Duration(b.wrote.Load())
}

// check sets due if a heartbeat is, and returns how long to wait before the next
// check; 0: there is none.
func (b *beats) check(now time.Duration) (due bool, wait time.Duration) {
	if b.interval == 0 {
		return false, 0
	}
	if wait := b.interval - b.silence(now); wait > 0 {
		return false, wait
	}
	b.due.Store(true)
	return true, b.interval
}

// take clears due. It reports false if due was not set, or something has been written
// since.
func (b *beats) take(c *clock) bool {
	return b.due.Swap(false) && b.silence(c.now()) >= b.interval
}

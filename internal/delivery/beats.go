package delivery

import (
	"sync/atomic"
	"time"
)

// beats decides when a heartbeat is due: once nothing was written for an interval.
type beats struct {
	// Set before the stream starts.
	interval time.Duration // 0: no heartbeats
	began    time.Duration // when the stream began, on the engine's clock
	soon     bool          // the first intervals are shorter
	always   bool          // each heartbeat sends the position, also if it has not moved

	due   atomic.Bool  // set by the clock, cleared by the writer
	wrote atomic.Int64 // when something was written last, on the engine's clock. Set by the writer
}

// silence returns for how long nothing has been written.
func (b *beats) silence(now time.Duration) time.Duration {
	return now - time.Duration(b.wrote.Load())
}

// firstBeat is the first interval of a stream whose first heartbeats come sooner.
const firstBeat = time.Second

// after returns the interval that follows what was written last. Where heartbeats come
// sooner it is the time from the stream's beginning to then, so that it doubles: a silent
// stream has heartbeats 1, 2, 4 and 8 seconds after its beginning. The first write after
// the client has left succeeds, and only the next one fails. A client that comes back at
// once, as one that reloads its page, is therefore noticed after some seconds, and a
// stream that stays has four heartbeats more in its life.
func (b *beats) after(wrote time.Duration) time.Duration {
	if !b.soon {
		return b.interval
	}
	return SoonBeat(b.interval, wrote-b.began)
}

// SoonBeat returns the interval before the next heartbeat where the first ones come sooner.
// wrote is when something was written last, since the stream began.
func SoonBeat(interval, wrote time.Duration) time.Duration {
	return min(interval, max(firstBeat, wrote))
}

// check sets due if a heartbeat is, and returns how long to wait before the next
// check; 0: there is none.
func (b *beats) check(now time.Duration) (due bool, wait time.Duration) {
	if b.interval == 0 {
		return false, 0
	}
	if wait := b.after(time.Duration(b.wrote.Load())) - b.silence(now); wait > 0 {
		return false, wait
	}
	b.due.Store(true)
	return true, b.after(now)
}

// take clears due. It reports false if due was not set, or something has been written
// since.
func (b *beats) take(c *clock) bool {
	return b.due.Load() && b.due.Swap(false) && b.silence(c.now()) >= b.after(time.Duration(b.wrote.Load()))
}

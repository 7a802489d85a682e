package delivery

import (
	"cmp"
	"container/heap"
	"sync"
	"sync/atomic"
	"time"
)

// clock ticks for an engine's streams. One timer serves all of them: a timer for each
// would be a third of what an idle stream takes. The zero clock is ready.
type clock struct {
	base  atomic.Pointer[time.Time] // what durations count from; set by the first use
	mu    sync.Mutex
	timer *time.Timer
	ticks ticks
}

// tick is when a stream ticks next.
type tick struct {
	at     time.Duration
	stream *Stream
}

// now returns the time since base.
func (c *clock) now() time.Duration {
	base := c.base.Load()
	if base == nil {
		now := time.Now()
		c.base.CompareAndSwap(nil, &now)
		base = c.base.Load()
	}
	return time.Since(*base)
}

// century bounds how far the clock looks ahead, so that its sums do not overflow.
const century = 100 * 365 * 24 * time.Hour

// at returns when it is t on the clock, and at most a century from now; 0: never, for the zero
// Time.
func (c *clock) at(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	at := max(-1, c.now()+min(time.Until(t), century))
	return cmp.Or(at, -1) // 0 is never
}

// schedule makes the stream tick in d, unless it does before that. A stream has one tick in the
// heap, however often this is called.
func (c *clock) schedule(s *Stream, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.insert(s, d)
}

// insert is schedule for a caller that holds mu.
func (c *clock) insert(s *Stream, d time.Duration) {
	at := c.now() + min(d, century)
	switch i := int(s.heapIndex) - 1; {
	case s.heapIndex == forgotten, s.heapIndex == ticking: // ticked finds out what is due
		return
	case i < 0:
		heap.Push(&c.ticks, tick{at, s})
	case at < c.ticks[i].at:
		c.ticks[i].at = at
		heap.Fix(&c.ticks, i)
	}
	if c.ticks[0].stream == s {
		c.wind()
	}
}

// forget removes a stream that has ended, which would otherwise stay in memory until its next
// tick. It has none afterwards.
func (c *clock) forget(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.heapIndex > 0 {
		heap.Remove(&c.ticks, int(s.heapIndex)-1)
	}
	s.heapIndex = forgotten
}

// wind sets the timer to the next tick. The caller holds mu.
func (c *clock) wind() {
	d := max(0, c.ticks[0].at-c.now())
	if c.timer == nil {
		c.timer = time.AfterFunc(d, c.run)
	} else {
		c.timer.Reset(d)
	}
}

func (c *clock) run() {
	for {
		s := c.next()
		if s == nil {
			return
		}
		c.ticked(s, s.tick())
	}
}

// ticked notes that a tick has returned, which wants the next one in d; 0: none. What the
// stream's expiry was set to meanwhile has not been scheduled.
func (c *clock) ticked(s *Stream, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.heapIndex == forgotten {
		return
	}
	s.heapIndex = 0
	if left, expires := s.untilExpiry(); expires && s.ending.why.Load() == nil {
		d = sooner(d, max(1, left))
	}
	if d > 0 {
		c.insert(s, d)
	}
}

// next removes a stream whose tick is due, for ticked to follow; nil if there is none.
func (c *clock) next() *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(c.ticks) == 0:
		c.timer = nil
		return nil
	case c.ticks[0].at > c.now():
		c.wind()
		return nil
	}
	s := heap.Pop(&c.ticks).(tick).stream
	s.heapIndex = ticking
	return s
}

// What the heapIndex of a stream may be that is not in the heap, but for 0.
const (
	ticking   = -1 // its tick has begun: ticks of one stream do not overlap
	forgotten = -2 // it has ended
)

// ticks is a heap, the earliest first.
type ticks []tick

func (t ticks) Len() int           { return len(t) }
func (t ticks) Less(i, j int) bool { return t[i].at < t[j].at }
func (t ticks) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].stream.heapIndex, t[j].stream.heapIndex = int32(i+1), int32(j+1)
}

func (t *ticks) Push(x any) {
	*t = append(*t, x.(tick))
	x.(tick).stream.heapIndex = int32(len(*t))
}

func (t *ticks) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	x.stream.heapIndex = 0
	(*t)[last] = tick{}
	*t = (*t)[:last]
	return x
}

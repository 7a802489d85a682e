package delivery

import (
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

// schedule sets the stream's next tick, d from now.
func (c *clock) schedule(s *Stream, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ended.Load() {
		return // forget has been called
	}
	heap.Push(&c.ticks, tick{c.now() + d, s})
	if c.ticks[0].stream == s {
		c.wind()
	}
}

// forget removes a stream, which would otherwise stay in memory until its next tick.
func (c *clock) forget(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.heapIndex > 0 {
		heap.Remove(&c.ticks, int(s.heapIndex)-1)
	}
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
		if d := s.tick(); d > 0 {
			c.schedule(s, d)
		}
	}
}

// next removes a stream whose tick is due; nil if there is none.
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
	return heap.Pop(&c.ticks).(tick).stream
}

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

package delivery

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"
)

// clock looks at each of a handler's streams when it is time to: one timer for all,
// since a timer of its own would be a third of what an idle stream takes. The zero
// clock is ready.
type clock struct {
	base  atomic.Pointer[time.Time] // of the durations here; set by the first use
	mu    sync.Mutex
	timer *time.Timer
	ticks ticks
}

// tick is when to look at a stream next.
type tick struct {
	at     time.Duration
	stream *Stream
}

// now is the time since base.
func (c *clock) now() time.Duration {
	base := c.base.Load()
	if base == nil {
		now := time.Now()
		c.base.CompareAndSwap(nil, &now)
		base = c.base.Load()
	}
	return time.Since(*base)
}

// look calls the stream's tick after d.
func (c *clock) look(s *Stream, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.over.Load() {
		return // and has been forgotten
	}
	heap.Push(&c.ticks, tick{c.now() + d, s})
	if c.ticks[0].stream == s {
		c.wind()
	}
}

// forget lets go of a stream, which may hold much that is not needed any more.
func (c *clock) forget(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.place > 0 {
		heap.Remove(&c.ticks, int(s.place)-1)
	}
}

// wind sets the timer to the next tick.
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
			c.look(s, d)
		}
	}
}

// next returns a stream whose time has come; nil if there is none.
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
	t[i].stream.place, t[j].stream.place = int32(i+1), int32(j+1)
}

func (t *ticks) Push(x any) {
	*t = append(*t, x.(tick))
	x.(tick).stream.place = int32(len(*t))
}

func (t *ticks) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	x.stream.place = 0
	(*t)[last] = tick{}
	*t = (*t)[:last]
	return x
}

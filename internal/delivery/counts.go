package delivery

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
)

// counts is what the streams of a handler have done. The zero value is ready.
type counts struct {
	cells                [8]cell
	fresh, resumed, gaps atomic.Uint64 // fresh: streams that began without a position
	next                 atomic.Uint32 // which cell the next stream has

	mu      sync.Mutex // guards what follows
	ended   map[string]uint64
	refused map[int]uint64
}

// cell counts what is written. There are several, each in a cache line of its own, so
// that writers on many cores do not wait for one.
type cell struct {
	live, replayed, bytes atomic.Uint64
	_                     [40]byte
}

func (c *counts) end(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = make(map[string]uint64)
	}
	c.ended[why]++
}

// wrote counts what a batch had, once all of it is written.
func (c *counts) wrote(cell byte, b *batch) {
	if b.gaps > 0 {
		c.gaps.Add(uint64(b.gaps))
	}
	if b.count > b.replayed {
		c.cells[cell].live.Add(uint64(b.count - b.replayed))
	}
	if b.replayed > 0 {
		c.cells[cell].replayed.Add(uint64(b.replayed))
	}
}

// CountRefusal counts a request that gets no stream.
func (s *State) CountRefusal(status int) {
	c := &s.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = make(map[int]uint64)
	}
	c.refused[status]++
}

// Stats returns a snapshot.
func (s *State) Stats() fanfare.StreamStats {
	c := &s.counts
	c.mu.Lock() // first, so that not more have ended than have begun
	stats := fanfare.StreamStats{Ended: maps.Clone(c.ended), Refused: maps.Clone(c.refused)}
	c.mu.Unlock()
	stats.Gaps, stats.Resumed = c.gaps.Load(), c.resumed.Load()
	stats.Opened = stats.Resumed + c.fresh.Load()
	stats.Open = int(stats.Opened)
	for _, n := range stats.Ended {
		stats.Open -= int(n)
	}
	for i := range c.cells {
		live, replayed := c.cells[i].live.Load(), c.cells[i].replayed.Load()
		stats.Messages += live + replayed
		stats.Replayed += replayed
		stats.Bytes += c.cells[i].bytes.Load()
	}
	now := s.clock.now()
	s.servers.each(func(stream *Stream) {
		if behind, lag := stream.behind(now); behind {
			stats.Behind++
			stats.Lag = max(stats.Lag, lag)
		}
	})
	return stats
}

// behind reports whether the stream has something to write, and for how long its writer
// has been at it since it last got something written.
func (s *Stream) behind(now time.Duration) (bool, time.Duration) {
	if s.word.Load() == idle {
		return false, 0
	}
	turn := s.turn.Load()
	if turn == 0 { // it waits for one
		return true, 0
	}
	return true, max(0, now-time.Duration(max(turn, s.wrote.Load())))
}

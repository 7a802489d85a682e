package delivery

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
)

// counts is what the streams of an engine have done. The zero value is ready.
type counts struct {
	shards               [8]shard
	fresh, resumed, gaps atomic.Uint64 // fresh: streams that began without a position
	next                 atomic.Uint32 // which shard the next stream has

	mu      sync.Mutex // guards what follows
	ended   map[string]uint64
	refused map[int]uint64
}

// shard counts what is written. There are several, each in a cache line of its own, so
// that writers on different processors do not wait for one.
type shard struct {
	live, replayed, bytes atomic.Uint64
	_                     [40]byte
}

// begin counts a stream, and returns its shard.
func (c *counts) begin(resumes bool) (shard byte) {
	if resumes {
		c.resumed.Add(1)
	} else {
		c.fresh.Add(1)
	}
	return byte(c.next.Add(1) % uint32(len(c.shards)))
}

// end counts a stream that has ended.
func (c *counts) end(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = make(map[string]uint64)
	}
	c.ended[why]++
}

// refuse counts a request that gets no stream.
func (c *counts) refuse(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = make(map[int]uint64)
	}
	c.refused[status]++
}

// wrote counts what is in a batch, once all of it is written.
func (c *counts) wrote(shard byte, b *batch) {
	if b.gaps > 0 {
		c.gaps.Add(uint64(b.gaps))
	}
	if b.count > b.replayed {
		c.shards[shard].live.Add(uint64(b.count - b.replayed))
	}
	if b.replayed > 0 {
		c.shards[shard].replayed.Add(uint64(b.replayed))
	}
}

// Stats returns a snapshot of the engine's streams.
func (e *Engine) Stats() fanfare.StreamStats {
	c := &e.counts
	c.mu.Lock() // ended comes first, so that no more have ended than have begun
	stats := fanfare.StreamStats{Ended: maps.Clone(c.ended), Refused: maps.Clone(c.refused)}
	c.mu.Unlock()
	stats.Gaps, stats.Resumed = c.gaps.Load(), c.resumed.Load()
	stats.Opened = stats.Resumed + c.fresh.Load()
	stats.Open = int(stats.Opened)
	for _, n := range stats.Ended {
		stats.Open -= int(n)
	}
	for i := range c.shards {
		live, replayed := c.shards[i].live.Load(), c.shards[i].replayed.Load()
		stats.Messages += live + replayed
		stats.Replayed += replayed
		stats.Bytes += c.shards[i].bytes.Load()
	}
	now := e.clock.now()
	e.servers.each(func(s *Stream) {
		if lags, lag := s.lag(now); lags {
			stats.Behind++
			stats.Lag = max(stats.Lag, lag)
		}
	})
	return stats
}

// lag reports whether the stream has something to write, and for how long its writer
// has made no progress.
func (s *Stream) lag(now time.Duration) (lags bool, lag time.Duration) {
	if s.signal.isIdle() {
		return false, 0
	}
	began := s.turnBegan.Load()
	if began == 0 { // it waits for a worker
		return true, 0
	}
	return true, max(0, now-time.Duration(max(began, s.beats.wrote.Load())))
}

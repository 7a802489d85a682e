package broadcast

import "math"

// haveEnded reports whether all topics of a drained subscription have ended, and it has returned
// all that they have. The next empty Poll ends it then.
func (s *subscription) haveEnded() bool {
	if s.position.epoch != s.epoch || s.hub.head.Load() < s.position.seq {
		return false
	}
	for i := range s.cursors {
		if !s.cursors[i].hasEnded() {
			return false
		}
	}
	return true
}

// hasEnded reports whether the topic has ended and has nothing after the position, nor is a
// publisher about to make that the head.
func (c *cursor) hasEnded() bool {
	if !c.topic.hasEnded.Load() {
		return false
	}
	e, lost := c.read(math.MaxUint64)
	tb := c.topic.table.Load()
	return e == nil && !lost && (tb == nil || tb.newest.Load() <= c.sub.position.seq)
}

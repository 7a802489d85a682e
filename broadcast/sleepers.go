package broadcast

import "github.com/fanfare-go/fanfare/internal/prefetch"

// cursorList is a list of cursors, linked through them: to put a cursor in or to take it out
// costs the same for any length, and a list has no memory of its own to give back. It is
// guarded by topic.mu.
type cursorList struct{ first, last *cursor }

func (l *cursorList) append(c *cursor) {
	if c.before = l.last; c.before == nil {
		l.first = c
	} else {
		c.before.after = c
	}
	l.last = c
	c.listed = true
}

func (l *cursorList) remove(c *cursor) {
	if c.before == nil {
		l.first = c.after
	} else {
		c.before.after = c.after
	}
	if c.after == nil {
		l.last = c.before
	} else {
		c.after.before = c.before
	}
	c.before, c.after, c.listed = nil, nil, false
}

// moveAll moves the cursors of another list to the end of this one.
func (l *cursorList) moveAll(other *cursorList) {
	switch {
	case other.first == nil:
		return
	case l.last == nil:
		l.first = other.first
	default:
		l.last.after, other.first.before = other.first, l.last
	}
	l.last = other.last
	*other = cursorList{}
}

// sleep adds a cursor to those that the next message wakes, unless it has been released.
func (t *topic) sleep(c *cursor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !c.released.Load() {
		c.round = t.round
		t.sleepers.append(c)
	}
}

// rouse ends a round: its cursors are to be woken. It returns the round, and removes the first
// cursor to wake, or returns nil if there is none.
func (t *topic) rouse() (round uint32, first *cursor, more bool) {
	t.mu.Lock()
	round = t.round
	if t.sleepers.first != nil {
		t.round++
		t.waking.moveAll(&t.sleepers)
	}
	first, more = t.popWaking(round)
	t.mu.Unlock()
	return round, first, more
}

// nextToWake removes the first cursor that is to be woken, of a round or one before, or
// returns nil if there is none. It reports whether there are more.
func (t *topic) nextToWake(round uint32) (c *cursor, more bool) {
	t.mu.Lock()
	c, more = t.popWaking(round)
	t.mu.Unlock()
	return c, more
}

// popWaking is nextToWake for a caller that holds mu.
func (t *topic) popWaking(round uint32) (c *cursor, more bool) {
	if c = t.waking.first; c == nil || c.isAfter(round) {
		return nil, false
	}
	t.waking.remove(c)
	next := t.waking.first
	if next == nil {
		return c, false
	}
	prefetch.Struct(next.after) // the one after next, and its subscription, where it mostly is
	return c, !next.isAfter(round)
}

// isAfter reports whether the cursor fell asleep after a round. Rounds may wrap around.
func (c *cursor) isAfter(round uint32) bool { return int32(c.round-round) > 0 }

// release removes a cursor for good: from here on the topic does not have it.
func (t *topic) release(c *cursor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.released.Store(true)
	switch {
	case !c.listed:
	case c.round == t.round:
		t.sleepers.remove(c)
	default:
		t.waking.remove(c)
	}
}

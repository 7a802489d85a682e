package broadcast_test

import (
	"errors"
	"slices"

	"github.com/fanfare-go/fanfare/broadcast"
)

// stateClient is a browser: it has a position, and of each topic what it got.
type stateClient struct {
	number    int
	beginning bool
	names     []string
	position  broadcast.ID
	has       map[string]*stateHas
	stream    *stateStream // nil: it is away
}

// stateHas is what a client has of a topic.
type stateHas struct {
	since  int            // what was published up to here need not come
	begun  bool           // it had nothing before
	keys   map[string]int // the newest sequence that it got
	events map[int]bool   // that it got
	lost   map[int]bool   // reported as lost
	excuse map[string]int // Keys of which what was published up to there was reported as lost
}

func newStateTopic(since int) *stateHas {
	return &stateHas{since: since, keys: make(map[string]int), events: make(map[int]bool), lost: make(map[int]bool), excuse: make(map[string]int)}
}

// stateStream is a connection of a client.
type stateStream struct {
	sub   broadcast.Subscription
	names []string
	end   int // the last sequence to return; -1: it has no end

	at      broadcast.ID // the last position that was none of a beginning; zero: there was none
	odd     bool         // the log has no such position: a gap or a beginning comes first
	polled  bool
	changed bool     // it has not been polled since it has its topics
	due     []string // topics that are to begin, or have not completed it
	begins  bool     // a beginning has started and is not complete
	to      int      // it ends there
	partial []string // topics that it reported as partial

	// Beginnings since another round was surely complete, and since one may have been.
	most, least int

	told   map[string][2]int // by topic: the newest value and removal whose eviction was reported
	last   []int             // Last messages that are still to come
	lastAt int               // the position at which they were asked for
	lastOf int
	few    map[string]bool // topics of which Last messages were evicted before they came

	// The round: which Keys came while the position stayed, and how many there were of a topic
	// when its first came.
	walked map[string]bool
	walks  map[string]int

	armed, news bool
	calls       int
}

func (s *stateStream) finish(head int) {
	if s.end < 0 {
		s.end, s.news = head, true
	}
}

func (s *stateStream) newRound() { clear(s.walked); clear(s.walks) }

// expect sets what a client has when it connects.
func (c *stateClient) expect(s *stateStream, m *stateModel, after broadcast.ID) {
	if after != c.position || after.IsZero() || c.has == nil {
		c.has = make(map[string]*stateHas)
	}
	for name := range c.has {
		if !slices.Contains(s.names, name) {
			delete(c.has, name)
		}
	}
	since := int(s.at.Seq())
	if s.odd {
		since = m.head()
	}
	for _, name := range s.names {
		if c.has[name] == nil {
			c.has[name] = newStateTopic(since)
		}
	}
	if c.position = after; s.odd {
		c.position = broadcast.ID{}
	}
}

// poll polls once, checks what is returned, and reports whether nothing is left. Sometimes the
// client is cut in the middle of what came.
func (w *stateWorld) poll(c *stateClient, size int) bool {
	s, m := c.stream, &w.model
	if s == nil {
		return true
	}
	w.tally.Polls++
	n, armed, err := pollAsStreamsDo(w.rng, s.sub, w.buf[:size])
	polled, position := w.buf[:n], s.sub.Position()
	if w.trace != nil {
		w.note("client %d polls %d: %v, error %v, armed %v, position %v", c.number, size, stateSequences(polled), err, armed, position)
	}
	limit := m.head()
	if s.end >= 0 {
		limit = s.end
	}
	s.polled, s.armed = true, false
	wasDue := s.begins
	if s.begins { // a topic that was reported as partial may lack more
		for _, name := range s.partial {
			w.excuseKeys(c.has[name], name, s.to)
		}
	}
	w.expectLast(s, err)
	if position != s.at {
		s.newRound()
	}
	if done, over := w.outcome(c, n, err, limit, position); over {
		return true
	} else if done && position.Epoch() != m.epoch {
		w.fail("client %d: drained at %v", c.number, position)
	}
	w.checkPosition(c, err, position, wasDue)
	cutAfter := -1
	if w.rng.IntN(8) == 0 {
		cutAfter = w.rng.IntN(n + 1)
	}
	for i, msg := range polled {
		if i == cutAfter {
			w.cut(c)
			return true
		}
		w.message(c, msg, limit, position)
	}
	if position.Epoch() == m.epoch {
		if n > 0 && polled[0].ID.Seq() <= position.Seq() {
			s.newRound() // this was all of it
		}
		if position != s.at && (!wasDue || n > 0) {
			s.least = 0
		}
		w.send(c, position, position == s.at)
		s.at = position
	}
	if n > 0 || err != nil {
		s.changed = false
		if armed {
			w.tally.Armed++
			s.armed, s.news, s.calls = true, false, 0
			if seq := w.nextFor(s, limit); seq > 0 {
				w.fail("client %d: Notify was armed at %v before %d was returned", c.number, s.at, seq)
			}
			if w.rng.IntN(2) > 0 {
				return false
			}
			if !w.poll(c, len(w.buf)) {
				w.fail("client %d: Notify was armed, and Poll finds something", c.number)
			}
			return true
		}
		return false
	}
	if want := m.id(max(limit, int(s.at.Seq()))); position != want {
		w.fail("client %d: drained at %v, want %v", c.number, position, want)
	}
	s.armed, s.news, s.calls, s.changed = true, false, 0, false
	s.most, s.least = 0, 0
	return true
}

// nextFor returns the first message of the stream's topics after its position and up to limit, or 0.
func (w *stateWorld) nextFor(s *stateStream, limit int) int {
	for seq := int(s.at.Seq()) + 1; seq <= limit; seq++ {
		if slices.Contains(s.names, w.model.at(seq).topic) {
			return seq
		}
	}
	return 0
}

// checkPosition checks the position after a Poll that a beginning may have been under way before.
func (w *stateWorld) checkPosition(c *stateClient, err error, position broadcast.ID, begins bool) {
	s, m := c.stream, &w.model
	if begins && !errors.Is(err, broadcast.ErrBegin) && s.begins && position.Epoch() == m.epoch {
		w.completed(c)
	}
	if s.begins != (position.Epoch() == 1) && !errors.Is(err, broadcast.ErrGap) {
		w.fail("client %d: the position is %v, a beginning is under way: %v", c.number, position, s.begins)
	}
	if !s.begins && s.at.Epoch() == m.epoch && (position.Epoch() != m.epoch || position.Seq() < s.at.Seq()) {
		w.fail("client %d: the position went back from %v to %v", c.number, s.at, position)
	}
}

// outcome checks the error of a Poll, and reports whether it was empty, and whether the stream is
// over.
func (w *stateWorld) outcome(c *stateClient, n int, err error, limit int, position broadcast.ID) (empty, over bool) {
	s, m := c.stream, &w.model
	var gap *broadcast.GapError
	var begin *broadcast.BeginError
	allEnded := !slices.ContainsFunc(s.names, func(name string) bool { return m.topics[name] == nil || !m.topics[name].ended })
	switch {
	case err == nil && n > 0:
		if s.odd || len(s.due) > 0 && !s.begins {
			w.fail("client %d: messages, and neither a gap nor a beginning", c.number)
		}
		if int(w.buf[n-1].ID.Seq()) > s.lastAt {
			s.few = nil // there were enough when the last of them had come
		}
		return false, false
	case err == nil:
		if s.end >= 0 || s.odd || allEnded {
			w.fail("client %d: an empty Poll, end %d, all ended %v", c.number, s.end, allEnded)
		}
		if s.few != nil {
			for name := range s.few {
				if slices.Contains(s.names, name) && w.isFew(s, name) && !m.startedOver(name, s.lastAt) {
					w.fail("client %d: no gap, but Last messages of %s were evicted", c.number, name)
				}
			}
			s.few = nil
		}
		return true, false
	case errors.As(err, &begin):
		w.begun(c, begin, limit)
		return false, false
	case errors.As(err, &gap):
		w.gap(c, gap, n, limit, position)
		return false, false
	case errors.Is(err, broadcast.ErrSlow):
		if !c.beginning || s.most < 3 || s.least > 3 || n > 0 {
			w.fail("client %d: ErrSlow after %d to %d beginnings", c.number, s.least, s.most)
		}
		w.tally.Slow++
		w.leave(c)
		return false, true
	case errors.Is(err, broadcast.ErrClosed) && s.end >= 0, errors.Is(err, broadcast.ErrEnded) && allEnded:
		if n > 0 || position.Epoch() != m.epoch || int(position.Seq()) < limit {
			w.fail("client %d: %v with %d messages at %v, limit %d", c.number, err, n, position, limit)
		}
		if errors.Is(err, broadcast.ErrEnded) {
			w.tally.Ended++
		}
		if s.begins {
			w.completed(c)
		}
		s.at = position
		w.send(c, position, false)
		w.leave(c)
		return false, true
	}
	w.fail("client %d: Poll: %d, %v", c.number, n, err)
	return false, false
}

// completed notes that a beginning is complete.
func (w *stateWorld) completed(c *stateClient) {
	c.stream.begins, c.stream.due = false, nil
	c.stream.newRound()
}

// begun checks a beginning.
func (w *stateWorld) begun(c *stateClient, begin *broadcast.BeginError, limit int) {
	s, m := c.stream, &w.model
	named := begin.Topics
	if named == nil {
		named = s.names
	}
	w.tally.Begins++
	again := len(s.due) == 0 || s.begins
	switch {
	case !c.beginning:
		w.fail("client %d: a beginning", c.number)
	case again && begin.Topics != nil:
		w.fail("client %d: a beginning of %v only, after a loss", c.number, begin.Topics)
	case again && !s.begins && !w.mayHaveLost(c):
		w.fail("client %d: another beginning, and nothing was lost", c.number)
	case !again && begin.Topics != nil && !slices.Equal(sorted(named), sorted(s.due)):
		w.fail("client %d: a beginning of %v, want %v", c.number, named, s.due)
	case begin.Topics != nil && len(begin.Topics) == len(s.names):
		w.fail("client %d: all topics are named", c.number)
	}
	if again {
		w.tally.Again++
	} else if begin.Topics != nil {
		w.tally.Added++
	}
	s.most++
	if s.least++; s.least > 3 {
		w.fail("client %d: beginning %d in a row", c.number, s.least)
	}
	for _, name := range named {
		t := m.topics[name]
		partial := slices.Contains(begin.Partial, name)
		if partial != t.isPartial() && !(partial && m.mayCollide(name)) {
			w.fail("client %d: %s is partial: %v", c.number, name, partial)
		}
		has := newStateTopic(0)
		has.begun = true
		c.has[name] = has
		if !partial {
			w.excuseKeys(has, name, m.tombstones[name]) // a First vouches for what was forgotten
			continue
		}
		w.tally.Partial++
		w.excuse(has, name, m.head())
	}
	s.due, s.begins, s.odd, s.to, s.partial = slices.Clone(named), true, false, limit, begin.Partial
	if begin.Topics == nil {
		c.position, s.at = broadcast.MakeID(1, 0), broadcast.ID{}
	}
	s.newRound()
	clear(s.told)
}

// mayHaveLost reports whether something was evicted after the position of a stream.
func (w *stateWorld) mayHaveLost(c *stateClient) bool {
	return c.stream.odd || slices.ContainsFunc(c.stream.names, func(name string) bool { return w.hasLost(c, name) })
}

func (w *stateWorld) hasLost(c *stateClient, name string) bool {
	s, t, at := c.stream, w.model.topics[name], int(c.stream.at.Seq())
	if s.at.Epoch() != w.model.epoch {
		at = 0
	}
	return t.evicted > at || t.valuesEvicted > max(at, s.told[name][0]) || t.keysEvicted > max(at, s.told[name][1]) || s.changed && w.model.mayCollide(name) || at == 0
}

// excuse notes that a client is told that it may lack what is not kept up to a sequence.
func (w *stateWorld) excuse(has *stateHas, name string, upTo int) {
	m := &w.model
	for seq := 1; seq <= upTo; seq++ {
		if l := m.at(seq); l.topic == name && l.key == "" && !l.kept {
			has.lost[seq] = true
		}
	}
	w.excuseKeys(has, name, upTo)
}

func (w *stateWorld) excuseKeys(has *stateHas, name string, upTo int) {
	m := &w.model
	t := m.topics[name]
	for _, key := range m.allKeys(name) {
		for seq := min(upTo, max(t.valuesEvicted, t.keysEvicted)); seq > 0; seq-- { // it may have come again
			if l := m.at(seq); l.topic == name && l.key == key && (l.removed && seq <= t.keysEvicted || !l.removed && seq <= t.valuesEvicted) {
				has.excuse[key] = max(has.excuse[key], seq)
				break
			}
		}
		if t.keys[key] == 0 {
			has.excuse[key] = max(has.excuse[key], m.newest(name, key, upTo))
		}
	}
}

// gap checks a gap.
func (w *stateWorld) gap(c *stateClient, gap *broadcast.GapError, n, limit int, position broadcast.ID) {
	s, m := c.stream, &w.model
	w.tally.Gaps++
	m.gaps++
	if c.beginning {
		w.fail("client %d: a gap on a stream with Beginning", c.number)
	}
	before := position
	if n > 0 && w.buf[0].ID.Seq() <= position.Seq() {
		before = m.id(int(w.buf[0].ID.Seq()) - 1)
	}
	if gap.ID != before {
		w.fail("client %d: the gap is at %v, want %v", c.number, gap.ID, before)
	}
	named := gap.Topics
	if named == nil {
		if named = s.names; !s.odd {
			w.fail("client %d: a gap in all topics", c.number)
		}
	}
	for _, name := range named {
		if !s.odd && !w.hasLost(c, name) && !w.isFew(s, name) {
			w.fail("client %d: a gap in %s, which has lost nothing: %+v, told %v, at %v", c.number, name, *m.topics[name], s.told[name], s.at)
		}
		if s.odd && s.at.Epoch() != m.epoch {
			c.has[name] = newStateTopic(0)
		}
		w.excuse(c.has[name], name, m.head())
		s.told[name] = [2]int{m.topics[name].valuesEvicted, m.topics[name].keysEvicted}
	}
	s.odd, s.few = false, nil
	s.at = gap.ID
	w.send(c, gap.ID, true)
}

package broadcast_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/fanfare-go/fanfare/broadcast"
)

// modelClient is a browser: it knows an ID, and comes back with it.
type modelClient struct {
	number   int
	filter   bool // its stream leaves out every third message
	topics   []string
	position broadcast.ID
	had      []broadcast.ID // all it ever knew: it may come back with an older one
	stream   *modelStream   // nil: it is away
}

// modelStream is a connection of a client: a subscription, and what has been polled
// and not yet written.
type modelStream struct {
	sub    broadcast.Subscription
	names  []string
	topics map[string]bool

	after    int             // it began after this sequence, or last changed its topics there
	begin    broadcast.ID    // the position that it sends first
	odd      bool            // the log has no such position: a gap comes first
	fresh    bool            // it has not been polled, but for the backlog
	changed  bool            // it has not been polled since it has its topics
	backlog  []int           // what Last asked for
	last     int             // how many of each topic that was
	curtail  map[string]bool // topics of which some of it was evicted before it was polled
	at       int             // all up to here was returned, or reported as lost
	end      int             // the last sequence to return; -1: it has no end
	reported []*claim        // by sequence: the gap that reported its loss
	queue    []modelItem     // polled, not written
	drained  bool            // the last Poll was empty

	// What the client has, by what was written to it.
	written  []bool // or left out by the filter, or reported as lost
	complete int    // all up to here has been checked

	armed, news bool // the last Poll was empty; there has been news since
	slept       bool // there was an empty Poll
	calls       int  // of Notify, since the last empty Poll
	early       bool // there was a call before the first
}

// claim is a topic named by a gap. It is wrong if all that seemed lost is returned after
// all.
type claim struct {
	topic   string
	lost    int
	excused bool // such a gap is allowed without a loss
}

// modelItem is something to write: a message, or a position.
type modelItem struct {
	seq   int          // 0: no message
	id    broadcast.ID // zero: it is sent without
	lost  []int        // what the gap reports
	isGap bool
}

// name gives the stream its topics.
func (s *modelStream) name(names []string) {
	s.names, s.topics = names, make(map[string]bool)
	for _, name := range names {
		s.topics[name] = true
	}
}

func (s *modelStream) finish(head int) {
	if s.end < 0 {
		s.end, s.news = head, true
	}
}

// limit is the last sequence that a Poll may return.
func (s *modelStream) limit(head int) int {
	if s.end >= 0 {
		return s.end
	}
	return head
}

// grown returns list with room for what the log has.
func grown[E any](list []E, head int) []E {
	return append(list, make([]E, max(0, head+1-len(list)))...)
}

// write writes at most n of what was polled.
func (w *world) write(c *modelClient, n int) {
	s := c.stream
	if s == nil {
		return
	}
	n = min(n, len(s.queue))
	s.written = grown(s.written, w.model.head())
	for _, it := range s.queue[:n] {
		left := c.filter && it.seq%3 == 0 && !it.isGap
		if it.seq > 0 && !it.id.IsZero() || left {
			s.written[it.seq] = true
		}
		for _, seq := range it.lost {
			s.written[seq] = true
		}
		if it.id.IsZero() || left && it.seq > 0 {
			continue
		}
		w.send(c, it.id)
	}
	if n > 0 {
		w.note("client %d is written %d of %d, now at %v", c.number, n, len(s.queue), c.position)
	}
	s.queue = s.queue[n:]
}

// send sends the client an ID. From then on it counts on having everything up to that.
func (w *world) send(c *modelClient, id broadcast.ID) {
	s := c.stream
	c.position = id
	c.had = append(c.had, id)
	s.written = grown(s.written, w.model.head())
	for seq := s.complete + 1; seq <= int(id.Seq()); seq++ {
		if s.topics[w.model.at(seq).topic] && !s.written[seq] {
			w.fail("client %d is sent %v and never got %d", c.number, id, seq)
		}
	}
	s.complete = max(s.complete, int(id.Seq()))
}

// poll polls once, with a buffer for size messages, and checks what is returned.
func (w *world) poll(c *modelClient, size int) {
	s, m := c.stream, &w.model
	if s == nil {
		return
	}
	w.tally.Polls++
	n, armed, err := pollAsStreamsDo(w.rng, s.sub, w.buf[:size])
	polled := w.buf[:n]
	if w.trace != nil {
		w.note("client %d polls %d: %v, error %v, armed %v, position %v", c.number, size, sequences(polled), err, armed, s.sub.Position())
	}
	s.armed, s.drained = false, false
	w.curtail(s)
	if len(s.backlog) > 0 {
		w.pollBacklog(c, polled, size, err)
		return
	}

	limit := s.limit(m.head())
	gap, closed := w.outcome(c, n, err)
	s.reported = grown(s.reported, m.head())
	passed := s.at
	for _, msg := range polled {
		w.returned(c, msg, passed, limit)
		passed = int(msg.ID.Seq())
	}
	position := m.id(passed)
	if n == 0 {
		passed, position = limit, m.id(limit)
	}
	var lost []int
	if gap != nil {
		lost = w.gap(c, gap, polled, limit)
	}
	w.checkPassed(c, polled, passed)
	s.at = passed
	if (s.fresh || s.changed) && !s.odd {
		for _, name := range s.names {
			if w.mayCollide(s, name) {
				w.tally.Tombstones++
			}
		}
	}
	for name := range s.curtail {
		if w.few(s, name) && s.topics[name] && gap == nil {
			w.fail("client %d: no gap, but Last messages of %s were evicted", c.number, name)
		}
	}
	s.curtail = nil
	if s.odd && gap == nil {
		w.fail("client %d: no gap after a position that the log does not have", c.number)
	}
	if s.sub.Position() != position {
		w.fail("client %d: the position is %v, want %v", c.number, s.sub.Position(), position)
	}

	s.enqueue(gap, lost, polled)
	s.odd, s.fresh, s.changed = false, false, false
	switch {
	case closed:
		s.drained = true
		w.ended(c)
	case err == nil && n == 0:
		s.drained = true
		s.armed, s.slept, s.news, s.calls = true, true, false, 0
	case armed:
		w.checkArmed(c, limit)
		s.armed, s.slept, s.news, s.calls = true, true, false, 0
	}
}

// outcome checks the error of a Poll that returned n messages.
func (w *world) outcome(c *modelClient, n int, err error) (gap *broadcast.GapError, closed bool) {
	s := c.stream
	closed = errors.Is(err, broadcast.ErrClosed)
	switch {
	case closed && (s.end < 0 || n > 0):
		w.fail("client %d: ErrClosed with %d messages, end %d", c.number, n, s.end)
	case err != nil && !closed && (!errors.Is(err, broadcast.ErrGap) || !errors.As(err, &gap)):
		w.fail("client %d: Poll: %v", c.number, err)
	case err == nil && n == 0 && s.end >= 0:
		w.fail("client %d: an empty Poll instead of ErrClosed", c.number)
	}
	return gap, closed
}

// checkPassed checks that a Poll went past nothing that it neither returned nor reported as
// lost.
func (w *world) checkPassed(c *modelClient, polled []*broadcast.Message, passed int) {
	s, m := c.stream, &w.model
	for seq := s.at + 1; seq <= passed; seq++ {
		l := m.at(seq)
		switch {
		case !s.topics[l.topic] || s.reported[seq] != nil:
		case slices.ContainsFunc(polled, func(msg *broadcast.Message) bool { return int(msg.ID.Seq()) == seq }):
		case l.gone:
			w.fail("client %d: %d was lost in silence", c.number, seq)
		default:
			w.fail("client %d: %d is kept and was left out", c.number, seq)
		}
	}
}

// checkArmed checks that there was nothing left to return or to report up to limit, when a Poll
// that returned something has armed Notify.
func (w *world) checkArmed(c *modelClient, limit int) {
	s := c.stream
	for seq := s.at + 1; seq <= limit; seq++ {
		if s.topics[w.model.at(seq).topic] && s.reported[seq] == nil {
			w.fail("client %d: Notify was armed at %d before %d was returned", c.number, s.at, seq)
		}
	}
	w.tally.Armed++
	if w.rng.IntN(2) > 0 {
		return
	}
	if n, err := s.sub.Poll(w.buf); n > 0 || err != nil {
		w.fail("client %d: Notify was armed, and Poll returns %d, %v", c.number, n, err)
	}
	s.at = limit
}

// pollAsStreamsDo polls with PollAndArm or without.
func pollAsStreamsDo(rng *rand.Rand, sub broadcast.Subscription, buf []*broadcast.Message) (n int, armed bool, err error) {
	if rng.IntN(2) > 0 {
		return sub.(interface {
			PollAndArm([]*broadcast.Message) (int, bool, error)
		}).PollAndArm(buf)
	}
	n, err = sub.Poll(buf)
	return n, n == 0 && err == nil, err
}

// enqueue appends what a Poll returned to what is to be written.
func (s *modelStream) enqueue(gap *broadcast.GapError, lost []int, polled []*broadcast.Message) {
	switch {
	case gap != nil:
		s.queue = append(s.queue, modelItem{id: gap.ID, lost: lost, isGap: true})
	case s.fresh:
		s.queue = append(s.queue, modelItem{id: s.begin})
	}
	for _, msg := range polled {
		s.queue = append(s.queue, modelItem{seq: int(msg.ID.Seq()), id: msg.ID})
	}
}

// ended closes a stream that has polled all up to its end. Sometimes that is written, and
// sometimes the client is cut before.
func (w *world) ended(c *modelClient) {
	if n, err := c.stream.sub.Poll(w.buf); n != 0 || !errors.Is(err, broadcast.ErrClosed) {
		w.fail("client %d: Poll after the end: %d, %v", c.number, n, err)
	}
	if w.rng.IntN(2) == 0 {
		w.write(c, len(c.stream.queue))
		w.send(c, c.stream.sub.Position())
	}
	w.cut(c)
}

// curtail leaves out of a stream's backlog what was evicted.
func (w *world) curtail(s *modelStream) {
	if len(s.backlog) == 0 {
		return
	}
	s.backlog = slices.DeleteFunc(s.backlog, func(seq int) bool {
		l := w.model.at(seq)
		if l.gone {
			if s.curtail == nil {
				s.curtail = make(map[string]bool)
			}
			s.curtail[l.topic] = true
			w.tally.Curtailed++
		}
		return l.gone
	})
}

// few reports whether a topic has too little left of what Last asked for: a gap says so.
func (w *world) few(s *modelStream, name string) bool {
	return s.curtail[name] && len(w.model.topics[name].kept) < min(s.last, w.model.keep)
}

// pollBacklog checks a Poll that returns Last messages. They are before the position, and are
// sent without IDs.
func (w *world) pollBacklog(c *modelClient, polled []*broadcast.Message, size int, err error) {
	s := c.stream
	want := s.backlog[:min(size, len(s.backlog))]
	got := sequences(polled)
	if n := len(got); n > 0 && n < len(want) && s.curtail != nil {
		want = want[:n] // Poll stops at what was evicted; the next one goes on
	}
	if err != nil || !slices.Equal(got, want) {
		w.fail("client %d: of the last messages came %v, error %v, want %v", c.number, got, err, want)
	}
	if s.sub.Position() != s.begin {
		w.fail("client %d: the position is %v while the last messages come, want %v", c.number, s.sub.Position(), s.begin)
	}
	for _, msg := range polled {
		w.same(msg)
		s.queue = append(s.queue, modelItem{seq: int(msg.ID.Seq())})
	}
	s.backlog = s.backlog[len(want):]
}

// returned checks a message that follows another, and is not beyond limit.
func (w *world) returned(c *modelClient, msg *broadcast.Message, after, limit int) {
	s, seq := c.stream, int(msg.ID.Seq())
	if msg.ID.Epoch() != w.model.epoch || seq <= after || seq > limit || !s.topics[msg.Topic] {
		w.fail("client %d: got %v on %s after %d, limit %d", c.number, msg.ID, msg.Topic, after, limit)
	}
	w.same(msg)
	// The subscription had read it before its ring evicted it: it was not lost after all.
	if claim := s.reported[seq]; claim != nil {
		if claim.lost--; claim.lost == 0 && !claim.excused {
			w.fail("client %d: a gap on %s was reported, and nothing was lost", c.number, claim.topic)
		}
	}
}

// same checks that a message is the one published, and the same for all.
func (w *world) same(msg *broadcast.Message) {
	seq := int(msg.ID.Seq())
	l := w.model.at(seq)
	if l.seen == nil {
		l.seen = msg
	}
	if l.seen != msg || msg.Topic != l.topic || int64(len(msg.Topic)+len(msg.Data)) != l.size ||
		strings.Trim(string(msg.Data), string(rune('a'+(seq-1)%26))) != "" {
		w.fail("%v is not the message published: %+v", msg.ID, msg)
	}
}

// gap checks a gap that came with polled, and returns what it reports as lost.
func (w *world) gap(c *modelClient, gap *broadcast.GapError, polled []*broadcast.Message, limit int) (lost []int) {
	s, m := c.stream, &w.model
	w.tally.Gaps++
	m.gaps++
	before := limit
	if len(polled) > 0 {
		before = int(polled[0].ID.Seq()) - 1
	}
	if gap.ID != m.id(before) {
		w.fail("client %d: the gap is at %v, want %v", c.number, gap.ID, m.id(before))
	}
	named := gap.Topics
	switch {
	case s.odd && named != nil:
		w.fail("client %d: a gap in %v after a position that the log does not have: all topics may have lost something", c.number, named)
	case named == nil:
		named = s.names
	case len(named) == 0:
		w.fail("client %d: a gap in no topic", c.number)
	}
	if !s.fresh {
		w.tally.Overruns++
	}
	for i, name := range named {
		if !s.topics[name] || slices.Contains(named[:i], name) {
			w.fail("client %d: a gap in the topics %v", c.number, named)
		}
		claim := &claim{topic: name}
		for seq := s.at + 1; seq <= limit; seq++ {
			l := m.at(seq)
			if l.topic != name || !l.gone || s.reported[seq] != nil ||
				slices.ContainsFunc(polled, func(msg *broadcast.Message) bool { return int(msg.ID.Seq()) == seq }) {
				continue
			}
			s.reported[seq] = claim
			claim.lost++
			lost = append(lost, seq)
		}
		few := w.few(s, name)
		claim.excused = s.odd || few
		switch {
		case claim.lost > 0 || s.odd:
		case few:
			w.tally.Few++
		case (s.fresh || s.changed) && w.mayCollide(s, name):
			w.tally.Collisions++
		default:
			w.fail("client %d: a gap in %s, which has lost nothing that was not reported before", c.number, name)
		}
	}
	return lost
}

// mayCollide reports whether another topic was forgotten whose newest message is after where
// the stream begins: its tombstone may have replaced that of name.
func (w *world) mayCollide(s *modelStream, name string) bool {
	for other, newest := range w.model.tombstones {
		if other != name && newest > s.after {
			return true
		}
	}
	return false
}

func sequences(msgs []*broadcast.Message) []int {
	seqs := make([]int, 0, len(msgs))
	for _, m := range msgs {
		seqs = append(seqs, int(m.ID.Seq()))
	}
	return seqs
}

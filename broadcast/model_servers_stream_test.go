package broadcast_test

import (
	"errors"
	"slices"

	"github.com/fanfare-go/fanfare/broadcast"
)

// clusterClient has a position, and a stream if it is connected.
type clusterClient struct {
	number   int
	topics   []string
	position broadcast.ID
	stream   *clusterStream
}

// clusterStream is what the oracle knows of a subscription.
type clusterStream struct {
	server  *clusterServer
	sub     broadcast.Subscription
	topics  []string
	at      broadcast.ID   // all up to here was returned, or reported as lost
	lost    map[string]int // by topic: a gap has reported what was lost up to this sequence of the epoch
	state   int            // Last messages that may still come
	opened  int            // the step in which a stream without a position began; 0: it has one
	after   broadcast.ID   // what its server had published when it began without a position
	mayGap  bool
	future  bool         // its position was ahead of the log
	closing bool         // it has been finished
	ended   broadcast.ID // where
	notices int          // calls of Notify
	current bool         // it has been at the end of what there is
	reads   int          // empty polls while the journal was read for it
}

// resumeFrom returns the position that a client resumes from: mostly its own.
func (w *cluster) resumeFrom(c *clusterClient) broadcast.ID {
	switch w.rng.IntN(12) {
	case 0, 1, 2, 3:
		return broadcast.ID{}
	case 4:
		return broadcast.MakeID(w.epoch, uint64(w.rng.IntN(len(w.logs[w.epoch])+1)))
	case 5:
		return broadcast.MakeID(w.epoch, w.newest().Seq()+2)
	case 6:
		return broadcast.MakeID(1, 3)
	}
	return c.position
}

func (w *cluster) open(c *clusterClient, i int) {
	server := w.servers[i]
	if c.topics == nil || w.rng.IntN(3) == 0 {
		c.topics = w.some()
	}
	after, last := w.resumeFrom(c), 0
	if after.IsZero() && w.rng.IntN(4) == 0 {
		last = 1 + w.rng.IntN(2)
	}
	s := &clusterStream{server: server, topics: c.topics, at: after, lost: map[string]int{}, state: last * len(c.topics)}
	known, deaf := server.Stats().Position, server.Deaf()
	sub, err := server.Subscribe(w.t.Context(), broadcast.SubscribeOptions{Topics: c.topics, After: after, Last: last, Notify: func() { s.notices++ }})
	if deaf != errors.Is(err, broadcast.ErrNotFollowing) {
		w.fail("Subscribe: %v, deaf: %v", err, deaf)
	}
	if deaf {
		return
	}
	if err != nil {
		w.fail("Subscribe: %v", err)
	}
	s.sub = sub
	w.note("client %d opens %v on server %d after %q, Last %d: at %v, %s", c.number, c.topics, i, after, last, sub.Position(), server.Stage(sub))
	w.history(s)
	c.stream = s
	switch {
	case !after.IsZero():
		s.mayGap = after.Epoch() != w.epoch || known.Epoch() != w.epoch || after.Seq() > w.newest().Seq()
		s.future = after.Epoch() == w.epoch && after.Seq() > w.newest().Seq()
		w.tally["resumed"]++
		if sub.Position() != after {
			w.fail("the position is %v", sub.Position())
		}
		return
	case last == 0:
		s.after = server.published
	}
	s.at, s.opened = sub.Position(), w.now
	// Entries of its topics may be newer than the subscription, if the server does not know
	// the journal yet.
	s.mayGap = known.Epoch() != w.epoch && (!known.IsZero() || last > 0 || w.trimmed || slices.ContainsFunc(w.logs[w.epoch], func(l logged) bool { return slices.Contains(s.topics, l.topic) }))
}

func (w *cluster) cut(c *clusterClient) {
	if c.stream == nil {
		return
	}
	w.note("client %d is cut, at %v", c.number, c.stream.at)
	c.leave()
}

// leave closes the stream. The client comes back from what it has got.
func (c *clusterClient) leave() {
	c.position = c.stream.at
	c.stream.sub.Close()
	c.stream = nil
}

func (w *cluster) finish(c *clusterClient) {
	w.note("client %d is to end at %v", c.number, c.stream.server.Stats().Position)
	if !c.stream.closing {
		c.stream.closing, c.stream.ended = true, c.stream.server.Stats().Position
	}
	c.stream.sub.(broadcast.Finisher).Finish()
	w.tally["finished"]++
}

func (w *cluster) change(c *clusterClient) {
	s := c.stream
	if s.closing {
		return
	}
	position, names := s.sub.Position(), w.some()
	w.note("client %d changes to %v from %v, %s", c.number, names, position, s.server.Stage(s.sub))
	if err := s.sub.(broadcast.TopicSetter).SetTopics(names); err != nil {
		w.fail("SetTopics: %v", err)
	}
	if s.sub.Position() != position {
		w.fail("SetTopics moved the position from %v to %v", position, s.sub.Position())
	}
	// What a gap has reported of a topic counts as long as the stream has it.
	for name := range s.lost {
		if !slices.Contains(names, name) {
			delete(s.lost, name)
		}
	}
	s.topics, c.topics = names, names
	s.mayGap = s.mayGap || s.isFresh() // other topics may have older entries
	w.tally["changes"]++
}

func (w *cluster) drain(c *clusterClient) {
	for range 1000 {
		if c.stream == nil || w.poll(c, 1+w.rng.IntN(4)) {
			return
		}
	}
	w.fail("client %d: Poll finds no end", c.number)
}

// lostInSilence returns a sequence after the stream's position that it should have got before
// it comes to another one; 0 if there is none.
func (w *cluster) lostInSilence(s *clusterStream, epoch, to uint64) int {
	from := 0
	for other, log := range w.logs {
		for i, l := range log {
			if s.isFresh() && epoch == w.epoch && other != epoch && l.by == s.server && l.at > s.opened && slices.Contains(s.topics, l.topic) {
				return i + 1 // the server knows that it published it
			}
		}
	}
	if epoch == s.at.Epoch() {
		from = int(s.at.Seq())
	}
	log := w.logs[epoch]
	for seq := from + 1; seq <= int(to) && seq <= len(log); seq++ {
		l := log[seq-1]
		if slices.Contains(s.topics, l.topic) && seq > s.lost[l.topic] && (epoch == s.at.Epoch() || l.at > s.opened) {
			return seq
		}
	}
	return 0
}

// isFresh reports whether the stream has no position yet that the journal has.
func (s *clusterStream) isFresh() bool { return s.opened > 0 && s.at.Epoch() == 1 }

// poll polls once, checks what is returned, and reports whether nothing is left.
func (w *cluster) poll(c *clusterClient, size int) bool {
	s := c.stream
	if s == nil {
		return true
	}
	buf := make([]*broadcast.Message, size)
	n, armed, err := pollAsStreamsDo(w.rng, s.sub, buf)
	position := s.sub.Position()
	var ids []string
	for _, m := range buf[:n] {
		ids = append(ids, m.ID.String()+m.Topic)
	}
	w.note("client %d polls %v, error %v, at %v", c.number, ids, err, position)
	gap, isGap := err.(*broadcast.GapError)
	if err != nil && !isGap && err != broadcast.ErrClosed {
		w.fail("Poll: %v", err)
	}
	if isGap {
		w.gap(c, gap)
	}
	for _, m := range buf[:n] {
		w.message(c, m)
	}
	switch {
	case position == s.at:
	case position.Epoch() == s.at.Epoch() && position.Seq() < s.at.Seq():
		w.fail("client %d: the position went back from %v to %v", c.number, s.at, position)
	case position.Epoch() != s.at.Epoch() && !s.isFresh():
		w.fail("client %d: from %v to the epoch of %v without a gap", c.number, s.at, position)
	default:
		if seq := w.lostInSilence(s, position.Epoch(), position.Seq()); seq > 0 {
			w.fail("client %d: the position %v is after %d, which did not come", c.number, position, seq)
		}
		s.at = position
	}
	if isGap && w.rng.IntN(4) == 0 {
		w.skip(c)
	}
	if err == broadcast.ErrClosed {
		if !s.closing {
			w.fail("client %d: closed", c.number)
		}
		c.leave()
		return true
	}
	if n > 0 && armed {
		s.current = true
		w.tally["armed"]++
	}
	if n == 0 && err == nil {
		switch s.server.Stage(s.sub) {
		case "live":
			s.current = true
		case "reading history":
			s.reads++
		}
		return true
	}
	return false
}

// skip lets the stream go on from now, as one does that gets a snapshot.
func (w *cluster) skip(c *clusterClient) {
	s := c.stream
	head := s.server.Stats().Position
	at := s.sub.(broadcast.Skipper).Skip()
	w.note("client %d skips to %v, its server is at %v", c.number, at, head)
	switch {
	case at != s.sub.Position():
		w.fail("client %d: the position is %v", c.number, s.sub.Position())
	case !s.closing && (at.Epoch() != head.Epoch() || at.Seq() < head.Seq()):
		w.fail("client %d: its server is at %v", c.number, head)
	case at.Epoch() == s.at.Epoch() && at.Seq() < s.at.Seq():
		w.fail("client %d: the position went back from %v to %v", c.number, s.at, at)
	}
	s.at, s.state = at, 0
	w.tally["skipped"]++
}

// message checks a message that comes next.
func (w *cluster) message(c *clusterClient, m *broadcast.Message) {
	s, id := c.stream, m.ID
	if s.state > 0 && (id.Epoch() != s.at.Epoch() || id.Seq() <= s.at.Seq()) && s.opened > 0 {
		if id.Epoch() != s.at.Epoch() {
			w.fail("client %d: state of another epoch, %v at %v", c.number, id, s.at)
		}
		s.state--
		return
	}
	s.state = 0
	switch {
	case !slices.Contains(s.topics, m.Topic) || w.logs[id.Epoch()][id.Seq()-1].topic != m.Topic:
		w.fail("client %d: %v on %s", c.number, id, m.Topic)
	case id.Epoch() != s.at.Epoch() && !s.isFresh():
		w.fail("client %d: %v of another epoch than %v", c.number, id, s.at)
	case id.Epoch() == s.at.Epoch() && id.Seq() <= s.at.Seq():
		w.fail("client %d: %v after %v", c.number, id, s.at)
	case s.after.Epoch() == id.Epoch() && id.Seq() <= s.after.Seq():
		w.fail("client %d: got %v, and its server had published %v before it came", c.number, id, s.after)
	}
	if seq := w.lostInSilence(s, id.Epoch(), id.Seq()-1); seq > 0 {
		w.fail("client %d: %v comes after %d, which did not come", c.number, id, seq)
	}
	// A gap excuses nothing that follows the next message of its topic.
	s.lost[m.Topic] = min(s.lost[m.Topic], int(id.Seq()))
	s.at = id
}

// gap checks a gap, which reports what comes before the next message of a topic, up to the
// head at most.
func (w *cluster) gap(c *clusterClient, gap *broadcast.GapError) {
	s := c.stream
	w.tally["gaps"]++
	// What rings have evicted is still read for one that has resumed and not caught up yet.
	overrun := w.keep < 256 && (s.opened > 0 || s.current || s.reads >= 8 || len(w.logs[w.epoch]) > 16*w.keep) && !s.isFresh()
	if !s.mayGap && !w.trimmed && !overrun {
		w.fail("client %d: a gap at %v, and nothing was lost", c.number, gap.ID)
	}
	if s.closing && s.at == s.ended && !s.mayGap {
		w.fail("client %d: a gap after the end", c.number)
	}
	head := int(max(s.server.Stats().Position.Seq(), gap.ID.Seq()))
	if gap.ID.Epoch() != s.at.Epoch() {
		if gap.Topics != nil && !s.isFresh() {
			w.fail("client %d: a gap in %v in another epoch", c.number, gap.Topics)
		}
		clear(s.lost)
		had := 0
		if s.server.entered[s.at.Epoch()] && gap.ID.Epoch() == w.epoch {
			had = min(int(s.at.Seq()), w.survived[s.at.Epoch()])
		}
		if had > 0 {
			w.tally["survived"]++
		}
		s.at = broadcast.MakeID(gap.ID.Epoch(), uint64(had)) // what it has had does not come again
	}
	if s.future && gap.ID.Epoch() == s.at.Epoch() {
		s.at, s.future = gap.ID, false
	}
	named := gap.Topics
	if named == nil {
		named = s.topics
	}
	for _, name := range named {
		s.lost[name] = max(s.lost[name], head)
	}
	s.state = 0
}

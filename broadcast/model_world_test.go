package broadcast_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// world is the Hub with its publishers, streams and clients, and the model.
type world struct {
	ctx    context.Context
	source *rand.PCG // seeded anew for each operation
	rng    *rand.Rand
	tally  *modelTally
	trace  *strings.Builder // nil: not wanted
	buf    []*broadcast.Message

	hub     *broadcast.Hub
	model   model
	names   []string // the topics there are
	clients []*modelClient
}

func (w *world) fail(format string, args ...any) { panic(violation(fmt.Sprintf(format, args...))) }

func (w *world) note(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "  "+format+"\n", args...)
	}
}

// begin makes the world that is drawn from a seed.
func (w *world) begin(seed uint64) {
	w.source.Seed(seed, 0)
	w.names = []string{"a", "b", "c", "d", "e", "f"}[:1+w.rng.IntN(6)]
	w.model.keep = 1 + w.rng.IntN(8)
	w.model.keepBytes = 1 << 20 // more than they ever publish and keep
	if w.rng.IntN(3) == 0 {
		w.model.keepBytes = int64(modelMessageCost + modelTopicCost + 10 + w.rng.IntN(2000))
	}
	w.model.ttl = time.Minute
	for range 1 + w.rng.IntN(5) {
		w.clients = append(w.clients, &modelClient{number: len(w.clients), filter: w.rng.IntN(4) == 0})
	}
	w.restart()
}

// restart replaces the Hub by a new one.
func (w *world) restart() {
	w.model = model{keep: w.model.keep, keepBytes: w.model.keepBytes, ttl: w.model.ttl, topics: make(map[string]*modelTopic), tombstones: make(map[string]int)}
	w.hub = &broadcast.Hub{Keep: w.model.keep, KeepBytes: w.model.keepBytes, TopicTTL: w.model.ttl}
	position, err := w.hub.Position(w.ctx)
	if err != nil || position.Seq() != 0 || position.Epoch() <= 1 {
		w.fail("a new Hub is at %v, error %v", position, err)
	}
	w.model.epoch = position.Epoch()
	w.note("a new Hub: Keep %d, KeepBytes %d", w.model.keep, w.model.keepBytes)
}

// step is one random operation.
func (w *world) step() {
	c := w.clients[w.rng.IntN(len(w.clients))]
	switch what := w.rng.IntN(1000); {
	case what < 300:
		for range 1 + w.rng.IntN(3) {
			w.publish()
		}
	case what < 740 && c.stream == nil:
		w.open(c)
	case what < 480:
		w.poll(c, 1+w.rng.IntN(len(w.buf)))
	case what < 600:
		w.write(c, 1+w.rng.IntN(8))
	case what < 740:
		w.drain(c)
	case what < 840:
		w.cut(c)
		w.open(c)
	case what < 880:
		w.cut(c)
	case what < 910 && c.stream != nil:
		w.finish(c)
	case what < 940 && c.stream != nil:
		w.change(c)
	case what < 985:
		w.pass(w.model.ttl / 4 * time.Duration(1+w.rng.IntN(8)))
	case what < 990:
		w.refuse()
	case what < 995:
		w.shut()
		w.restart()
	default:
		w.crash()
	}
}

func (w *world) publish() {
	name := w.names[w.rng.IntN(len(w.names))]
	data := strings.Repeat(string(rune('a'+w.model.head()%26)), w.rng.IntN(9))
	w.model.publish(name, int64(len(name)+len(data)), w.tally)
	for _, c := range w.clients {
		if s := c.stream; s != nil && s.topics[name] && s.end < 0 {
			s.news = true
		}
	}
	w.note("publish %d on %s, %d bytes", w.model.head(), name, len(name)+len(data))
	id, err := w.hub.Publish(w.ctx, broadcast.Message{Topic: name, Data: []byte(data)})
	if err != nil || id != w.model.id(w.model.head()) {
		w.fail("published %v, error %v", id, err)
	}
	w.tally.Messages++
}

// refuse tries calls that fail and must change nothing.
func (w *world) refuse() {
	refused := func(ctx context.Context, m broadcast.Message, why string) {
		if id, err := w.hub.Publish(ctx, m); !errors.Is(err, broadcast.ErrNotPublished) || !id.IsZero() {
			w.fail("%s: got %v, error %v", why, id, err)
		}
	}
	ended, cancel := context.WithCancel(w.ctx)
	cancel()
	refused(w.ctx, broadcast.Message{Topic: "a", Data: make([]byte, w.model.keepBytes)}, "a message larger than KeepBytes")
	refused(w.ctx, broadcast.Message{Topic: "a\nb"}, "a topic of two lines")
	refused(ended, broadcast.Message{Topic: "a"}, "a context that has ended")
	if _, err := w.hub.Subscribe(w.ctx, broadcast.SubscribeOptions{}); err == nil {
		w.fail("subscribed to no topic")
	}
}

func (w *world) pass(d time.Duration) {
	w.note("%v pass", d)
	time.Sleep(d)
	synctest.Wait() // for what expires in this moment
	w.model.expire(w.tally)
}

// crash is the end of a server: streams get nothing more, and clients come back
// to another Hub with the IDs of this one.
func (w *world) crash() {
	w.note("crash")
	for _, c := range w.clients {
		c.stream = nil
	}
	w.restart()
}

// shut closes the Hub. Streams get what it keeps, and then their end.
func (w *world) shut() {
	w.note("close the Hub")
	if err := w.hub.Close(); err != nil {
		w.fail("Hub.Close: %v", err)
	}
	for _, c := range w.clients {
		if c.stream != nil {
			c.stream.finish(w.model.head())
		}
	}
	w.check()
	if _, err := w.hub.Publish(w.ctx, broadcast.Message{Topic: "a"}); !errors.Is(err, broadcast.ErrClosed) || !errors.Is(err, broadcast.ErrNotPublished) {
		w.fail("Publish to a closed Hub: %v", err)
	}
	if _, err := w.hub.Subscribe(w.ctx, broadcast.SubscribeOptions{Topics: []string{"a"}}); !errors.Is(err, broadcast.ErrClosed) {
		w.fail("Subscribe to a closed Hub: %v", err)
	}
	for _, c := range w.clients {
		for c.stream != nil {
			w.poll(c, 1+w.rng.IntN(len(w.buf)))
			w.write(c, w.rng.IntN(8))
		}
	}
	if err := w.hub.Close(); err != nil {
		w.fail("Hub.Close, once more: %v", err)
	}
}

// check checks what must be true after each operation.
func (w *world) check() {
	m := &w.model
	open := 0
	for _, c := range w.clients {
		s := c.stream
		if s == nil {
			continue
		}
		open++
		if s.early {
			w.fail("client %d: Notify before the first empty Poll", c.number)
		}
		if s.armed && s.news && s.calls == 0 {
			w.fail("client %d: there is news for a sleeper, and no Notify", c.number)
		}
	}
	want := broadcast.HubStats{Topics: len(m.topics), Messages: m.messages, Bytes: m.bytes, Subscriptions: open, Gaps: m.gaps, Position: m.id(m.head())}
	got := w.hub.Stats()
	if got != want {
		w.fail("Stats are %+v, want %+v", got, want)
	}
	if got.Bytes > m.keepBytes {
		w.fail("%d bytes kept, at most %d may be", got.Bytes, m.keepBytes)
	}
}

// some returns some of the topics there are.
func (w *world) some() (names []string) {
	for _, i := range w.rng.Perm(len(w.names))[:1+w.rng.IntN(len(w.names))] {
		names = append(names, w.names[i])
	}
	return names
}

// change gives a stream other topics. All that was polled is written before, and then the
// position from which the new ones count.
func (w *world) change(c *modelClient) {
	s := c.stream
	if s.fresh || s.end >= 0 {
		return // no client asks for it then
	}
	w.write(c, len(s.queue))
	w.send(c, s.sub.Position())
	names := w.some()
	w.note("client %d changes to %v from %v", c.number, names, s.sub.Position())
	before, position := s.names, s.sub.Position()
	w.model.subscribe(names)
	w.model.unsubscribe(before, w.tally)
	for seq := range s.reported {
		if claim := s.reported[seq]; claim != nil && !slices.Contains(names, claim.topic) {
			s.reported[seq] = nil // it may be reported again if the topic comes back
		}
	}
	c.topics = names
	s.name(names)
	if err := s.sub.(broadcast.TopicSetter).SetTopics(names); err != nil {
		w.fail("SetTopics: %v", err)
	}
	if s.sub.Position() != position {
		w.fail("client %d: SetTopics moved the position from %v to %v", c.number, position, s.sub.Position())
	}
	if s.armed && s.calls == 0 {
		w.fail("client %d: SetTopics did not call Notify", c.number)
	}
	s.armed, s.drained, s.changed, s.after = false, false, true, s.at
	w.tally.Changed++
}

// open connects a client, mostly where it was before.
func (w *world) open(c *modelClient) {
	m := &w.model
	s := &modelStream{end: -1, fresh: true}
	c.stream = s
	if c.topics == nil || w.rng.IntN(3) == 0 {
		c.topics = w.some()
	}
	s.name(c.topics)
	asked := s.names
	if w.rng.IntN(8) == 0 {
		asked = append(slices.Clone(asked), asked[0]) // to name a topic twice changes nothing
	}

	after, last := w.resumeFrom(c), 0
	if after.IsZero() && w.rng.IntN(2) == 0 {
		last = w.rng.IntN(m.keep + 2)
	}

	m.subscribe(s.names)
	w.expectBegin(s, after, last)
	w.note("client %d opens %v after %q, Last %d", c.number, asked, after, last)

	sub, err := w.hub.Subscribe(w.ctx, broadcast.SubscribeOptions{Topics: asked, After: after, Last: last, Notify: func() {
		// A violation here would be recovered as a panic of Notify.
		s.early = s.early || !s.slept
		s.calls++
	}})
	if err != nil {
		w.fail("Subscribe: %v", err)
	}
	s.sub = sub
	if sub.Position() != s.begin {
		w.fail("client %d: the position is %v before the first Poll, want %v", c.number, sub.Position(), s.begin)
	}
	if !after.IsZero() {
		w.tally.Resumed++
	}
	if s.odd {
		w.tally.Odd++
	}
}

// resumeFrom returns the position that a client resumes from: mostly its own or an older one.
func (w *world) resumeFrom(c *modelClient) broadcast.ID {
	m, after := &w.model, c.position
	switch w.rng.IntN(16) {
	case 0:
		after = broadcast.ID{}
	case 1:
		after = m.id(m.head() + 1 + w.rng.IntN(3)) // the future
	case 2:
		after = broadcast.MakeID(m.epoch^2, uint64(w.rng.IntN(m.head()+2)))
	case 3:
		after = broadcast.MakeID(1, uint64(w.rng.IntN(m.head()+2))) // reserved for an unknown position
	case 4, 5, 6, 7:
		if len(c.had) > 0 {
			after = c.had[len(c.had)-1-w.rng.IntN(min(len(c.had), 8))]
		}
	}
	return after
}

// expectBegin sets where a stream must begin.
func (w *world) expectBegin(s *modelStream, after broadcast.ID, last int) {
	m := &w.model
	head := m.head()
	switch {
	case after.IsZero():
		s.after, s.begin = head, m.id(head)
		for _, name := range s.names {
			kept := m.topics[name].kept
			s.backlog = append(s.backlog, kept[len(kept)-min(last, len(kept)):]...)
			s.last = last
		}
		slices.Sort(s.backlog)
	case after.Epoch() != m.epoch:
		s.after, s.begin, s.odd = 0, after, true
	case after.Seq() > uint64(head):
		s.after, s.begin, s.odd = head, after, true
	default:
		s.after, s.begin = int(after.Seq()), after
	}
	s.at, s.complete = s.after, s.after
}

// cut ends a stream at once: the client has what was written to it, and no more.
func (w *world) cut(c *modelClient) {
	s := c.stream
	if s == nil {
		return
	}
	w.note("client %d is cut, at %v", c.number, c.position)
	w.model.unsubscribe(s.names, w.tally)
	for range 2 {
		if err := s.sub.Close(); err != nil {
			w.fail("Close: %v", err)
		}
	}
	if n, err := s.sub.Poll(w.buf); n != 0 || !errors.Is(err, broadcast.ErrClosed) {
		w.fail("Poll after Close: %d, %v", n, err)
	}
	c.stream = nil
}

// finish asks for the end of a stream.
func (w *world) finish(c *modelClient) {
	w.note("client %d is to end at %d", c.number, c.stream.limit(w.model.head()))
	c.stream.finish(w.model.head())
	c.stream.sub.(broadcast.Finisher).Finish()
}

// drain polls until nothing is left and writes all of it. Only then the position may be
// sent.
func (w *world) drain(c *modelClient) {
	for range w.model.head() + 100 {
		if c.stream == nil {
			return
		}
		if c.stream.drained && len(c.stream.queue) == 0 {
			w.note("client %d is sent the position %v", c.number, c.stream.sub.Position())
			w.send(c, c.stream.sub.Position())
			return
		}
		w.write(c, 1+w.rng.IntN(8))
		w.poll(c, 1+w.rng.IntN(len(w.buf)))
	}
	w.fail("client %d: Poll finds no end", c.number)
}

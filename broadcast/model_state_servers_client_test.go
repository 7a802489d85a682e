package broadcast_test

import (
	"errors"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func (w *shared) open(c *sharedClient) {
	if c.topics == nil || w.rng.IntN(3) == 0 {
		c.topics = [][]string{{"a"}, {"b"}, {"a", "b"}}[w.rng.IntN(3)]
		c.position = broadcast.ID{}
	}
	s := w.servers[w.rng.IntN(len(w.servers))]
	sub, err := s.Subscribe(w.t.Context(), broadcast.SubscribeOptions{Topics: c.topics, After: c.position, Beginning: c.beginning, Notify: func() {}})
	if err != nil {
		w.note("client %d cannot open: %v", c.number, err)
		return
	}
	c.server, c.unanswered = s, false
	c.sub, c.connected = sub, make(map[string]broadcast.ID)
	if c.position.IsZero() {
		c.values, c.events, c.began = make(map[string]broadcast.ID), make(map[string]broadcast.ID), make(map[string]broadcast.ID)
		for _, topic := range c.topics {
			c.began[topic] = sub.Position()
		}
	}
	w.note("client %d opens %v after %q, Beginning %v: %s", c.number, c.topics, c.position, c.beginning, s.Stage(sub))
}

func (w *shared) leave(c *sharedClient) {
	if c.sub != nil {
		w.note("client %d leaves, at %q", c.number, c.position)
		c.sub.Close()
		c.sub = nil
	}
}

func (w *shared) change(c *sharedClient) {
	names := [][]string{{"a"}, {"b"}, {"b", "a"}}[w.rng.IntN(3)]
	w.note("client %d changes to %v", c.number, names)
	position := c.sub.Position()
	for _, name := range names {
		if !slices.Contains(c.topics, name) {
			c.forget(name)
			c.began[name] = position
		}
	}
	c.topics = names
	if c.beginning { // it comes back without a position until all has begun
		c.position, c.unanswered = broadcast.ID{}, true
	}
	require.NoError(w.t, c.sub.(broadcast.TopicSetter).SetTopics(names))
}

// forget forgets what the client has of a topic.
func (c *sharedClient) forget(topic string) {
	delete(c.events, topic)
	for key := range c.values {
		if strings.HasPrefix(key, topic) {
			delete(c.values, key)
		}
	}
}

func (w *shared) drain(c *sharedClient) {
	for range 1000 {
		if c.sub == nil || w.poll(c, 1+w.rng.IntN(4)) {
			return
		}
	}
	w.fail("client %d: Poll finds no end", c.number)
}

// poll polls once, and reports whether nothing is left. Sometimes the client is cut in the middle.
func (w *shared) poll(c *sharedClient, size int) bool {
	if c.sub == nil {
		return true
	}
	buf := make([]*broadcast.Message, size)
	n, _, err := pollAsStreamsDo(w.rng, c.sub, buf)
	position := c.sub.Position()
	w.note("client %d polls %v, error %v, at %v", c.number, stateSequences(buf[:n]), err, position)
	if w.told(c, err, position); c.sub == nil {
		return true
	}
	if n == 0 && err == nil && c.server.Stage(c.sub) == "live" {
		c.unanswered = false
	}
	cut := w.rng.IntN(8) == 0
	for i, m := range buf[:n] {
		if cut && i == w.rng.IntN(n) {
			w.leave(c)
			return true
		}
		w.message(c, m)
		if m.ID.Epoch() == position.Epoch() && m.ID.Seq() <= position.Seq() && !c.unanswered {
			c.position = m.ID
		}
	}
	if position.Epoch() > 1 && !c.unanswered {
		c.position = position
	}
	return n == 0 && err == nil
}

// told notes what a Poll has said of losses and beginnings.
func (w *shared) told(c *sharedClient, err error, position broadcast.ID) {
	var gap *broadcast.GapError
	var begin *broadcast.BeginError
	switch {
	case errors.As(err, &gap):
		w.tally["gaps"]++
		if c.beginning {
			w.fail("client %d: a gap on a stream with Beginning", c.number)
		}
		named := gap.Topics
		if named == nil {
			named = c.topics
		}
		for _, name := range named { // what is published from now on must come
			c.began[name] = w.newest()
		}
		c.position = gap.ID
	case errors.As(err, &begin):
		w.tally["begins"]++
		named := begin.Topics
		if named == nil {
			named, c.unanswered = c.topics, false
			c.position = broadcast.MakeID(1, 0)
		}
		for _, name := range named {
			c.forget(name)
			c.began[name] = broadcast.MakeID(w.epoch, 0)
			if slices.Contains(begin.Partial, name) {
				w.tally["partial"]++
				c.began[name] = w.newest()
			} else if w.lossy {
				c.began[name] = w.newestFirst(name) // which vouches for what no server may have read
			}
		}
	case errors.Is(err, broadcast.ErrSlow):
		w.tally["slow"]++
		w.leave(c) // it comes back with the position that it had
	case errors.Is(err, broadcast.ErrClosed): // its server does not hear the journal
		w.tally["closed"]++
		w.leave(c)
	case err != nil:
		w.fail("client %d: %v", c.number, err)
	}
}

func (w *shared) newest() broadcast.ID { return broadcast.MakeID(w.epoch, uint64(len(w.log))) }

func (w *shared) newestFirst(topic string) broadcast.ID {
	seq := 0
	for i, m := range w.log {
		if m.Topic == topic && m.First {
			seq = i + 1
		}
	}
	return broadcast.MakeID(w.epoch, uint64(seq))
}

func (w *shared) message(c *sharedClient, m *broadcast.Message) {
	at := m.Topic + m.Key
	if !slices.Contains(c.topics, m.Topic) {
		w.fail("client %d: %v on %s", c.number, m.ID, m.Topic)
	}
	if m.Key == "" {
		if before := c.events[at]; before.Epoch() == m.ID.Epoch() && before.Seq() >= m.ID.Seq() {
			w.fail("client %d: %v on %s after %v", c.number, m.ID, m.Topic, before)
		}
		c.events[at] = m.ID
		return
	}
	if before := c.connected[at]; before.Epoch() == m.ID.Epoch() && before.Seq() > m.ID.Seq() {
		w.fail("client %d: %v of %s after %v", c.number, m.ID, m.Key, before)
	}
	c.connected[at], c.values[at] = m.ID, m.ID
}

// heal ends all faults, and checks what the clients have.
func (w *shared) heal() {
	w.note("all heals")
	for _, s := range w.servers {
		s.node.Release()
		s.node.Fail(nil)
	}
	for range 5 {
		w.publish()
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	for _, c := range w.clients {
		for range 20 {
			if c.sub == nil && c.topics != nil {
				w.open(c)
				time.Sleep(10 * time.Second)
				synctest.Wait()
			}
			w.drain(c)
			synctest.Wait() // for what is still read for it
		}
		if c.sub != nil {
			w.compare(c)
		}
	}
}

// compare checks that a client has of each Key and of the events what is the newest.
func (w *shared) compare(c *sharedClient) {
	w.tally["checked"]++
	if c.sub.Position() != w.newest() {
		w.fail("client %d is left at %v, the newest is %v", c.number, c.sub.Position(), w.newest())
	}
	truth := make(map[string]broadcast.Message)
	for _, m := range w.log {
		truth[m.Topic+m.Key] = m
	}
	for at, m := range truth {
		began, has := c.began[m.Topic], c.values[at]
		if m.Key == "" {
			has = c.events[at]
		}
		switch {
		case !slices.Contains(c.topics, m.Topic), has == broadcast.MakeID(w.epoch, m.ID.Seq()):
		case began.Epoch() == w.epoch && m.ID.Seq() <= began.Seq(): // it may lack that
		case m.Removed && has.IsZero(): // as it should
		default:
			w.fail("client %d has %v of %q, and the newest is %d; nothing is missing since %v", c.number, has, at, m.ID.Seq(), began)
		}
	}
}

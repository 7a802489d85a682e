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

// stateWorld is a Hub whose topics have Keys, events that start over and ends, with its
// publishers, streams and clients, and the model.
//
// Other than the world of events it does not say what each Poll must return: it says what a
// client may have and lack, whose connection may be cut after any message.
type stateWorld struct {
	ctx    context.Context
	source *rand.PCG // seeded anew for each operation
	rng    *rand.Rand
	tally  *stateTally
	trace  *strings.Builder // nil: not wanted
	buf    []*broadcast.Message

	hub     *broadcast.Hub
	values  int // Hub.Values
	model   stateModel
	names   []string
	clients []*stateClient
	fresh   int // numbers Keys that nobody had before
	turn    int // of the Keys that change in turn
}

// stateTally counts what the runs met.
type stateTally struct {
	Messages, Polls, Gaps, Walks, Rounds int
	Armed                                int // Polls that returned something and armed Notify
	Begins, Partial, Again, Slow, Ended  int // beginnings; those that lack something; those after a loss; ErrSlow; ErrEnded
	Added, Interrupted                   int // beginnings of added topics; changes of topics among one
	Evicted, Refused, Last               int // values and removals evicted; publishes after an end; values among Last messages
	Forgotten                            int
}

func (w *stateWorld) fail(format string, args ...any) { panic(violation(fmt.Sprintf(format, args...))) }

func (w *stateWorld) note(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "  "+format+"\n", args...)
	}
}

func playState(ctx context.Context, ops []uint64, seen *stateTally, trace *strings.Builder) (bad string) {
	w := &stateWorld{ctx: ctx, tally: seen, trace: trace, source: new(rand.PCG), buf: make([]*broadcast.Message, 8)}
	w.rng = rand.New(w.source)
	defer func() {
		switch p := recover().(type) {
		case nil:
		case violation:
			bad = string(p)
		default:
			panic(p)
		}
	}()
	w.begin(ops[0])
	for _, op := range ops[1:] {
		w.source.Seed(op, 1)
		w.step()
		w.check()
	}
	w.shut()
	return ""
}

func (w *stateWorld) begin(seed uint64) {
	w.source.Seed(seed, 0)
	w.names = []string{"a", "b", "c", "d"}[:1+w.rng.IntN(4)]
	w.values = 1 + w.rng.IntN(8)
	m := &w.model
	m.keepBytes = 1 << 20
	if w.rng.IntN(3) == 0 {
		m.keepBytes = int64(1200 + w.rng.IntN(4000))
	}
	m.classes = make(map[string]broadcast.Retention)
	keep, ttl := 1+w.rng.IntN(8), time.Minute
	for _, name := range w.names {
		m.classes[name] = broadcast.Retention{Keep: keep, Values: w.values, TTL: ttl}
		if w.rng.IntN(3) == 0 {
			m.classes[name] = broadcast.Retention{Keep: 1 + w.rng.IntN(8), Values: 1 + w.rng.IntN(20), TTL: []time.Duration{ttl / 2, ttl, 2 * ttl, -1}[w.rng.IntN(4)]}
		}
	}
	for range 1 + w.rng.IntN(4) {
		w.clients = append(w.clients, &stateClient{number: len(w.clients), beginning: w.rng.IntN(3) > 0})
	}
	w.restart()
}

// restart replaces the Hub by a new one.
func (w *stateWorld) restart() {
	w.model = stateModel{keepBytes: w.model.keepBytes, classes: w.model.classes, topics: make(map[string]*stateTopic), tombstones: make(map[string]int)}
	w.hub = &broadcast.Hub{Keep: 3, Values: w.values, KeepBytes: w.model.keepBytes, TopicTTL: time.Minute, Retain: w.model.classes}
	position, err := w.hub.Position(w.ctx)
	if err != nil {
		w.fail("a new Hub is at %v, error %v", position, err)
	}
	w.model.epoch = position.Epoch()
	w.note("a new Hub: KeepBytes %d, %v", w.model.keepBytes, w.model.classes)
}

func (w *stateWorld) step() {
	c := w.clients[w.rng.IntN(len(w.clients))]
	switch what := w.rng.IntN(1000); {
	case what < 300:
		for range 1 + w.rng.IntN(4) {
			w.publish(w.some()[0], "")
		}
	case what < 640 && c.stream == nil:
		w.open(c)
	case what < 340:
		w.race(c)
	case what < 520:
		w.poll(c, 1+w.rng.IntN(len(w.buf)))
	case what < 640:
		w.drain(c)
	case what < 760:
		w.cut(c)
		w.open(c)
	case what < 790:
		w.cut(c)
	case what < 820 && c.stream != nil:
		w.finish(c)
	case what < 900 && c.stream != nil:
		w.change(c)
	case what < 960:
		w.pass(time.Minute / 4 * time.Duration(1+w.rng.IntN(8)))
	case what < 990:
		w.burst()
	case what < 995:
		w.shut()
		w.restart()
	default:
		w.note("crash")
		for _, c := range w.clients {
			c.stream = nil
		}
		w.restart()
	}
}

// publish publishes an event, or a value or removal of a Key; if the Key is empty it is drawn.
func (w *stateWorld) publish(name, key string) {
	l := stateMessage{topic: name, key: key}
	switch what := w.rng.IntN(100); {
	case key != "":
	case what < 40:
		l.key = string(rune('p' + w.rng.IntN(6)))
	case what < 52:
		w.fresh++
		l.key = fmt.Sprint("new", w.fresh%40)
	case what < 60:
		l.first = true
		l.end = w.rng.IntN(4) == 0
	case what < 64:
		l.end = true
	}
	l.removed = l.key != "" && w.rng.IntN(4) == 0
	data := strings.Repeat("x", w.rng.IntN(9))
	l.size = int64(len(name) + len(l.key) + len(data))
	t := w.model.topics[name]
	refused := t != nil && t.ended && !l.first
	if !refused {
		before := len(w.model.tombstones)
		w.model.publish(l)
		w.tally.Forgotten += len(w.model.tombstones) - before
		for _, c := range w.clients {
			if s := c.stream; s != nil && s.end < 0 && slices.Contains(s.names, name) {
				s.news = true
			}
		}
	}
	w.note("publish %d on %s: key %q removed %v first %v end %v", w.model.head(), name, l.key, l.removed, l.first, l.end)
	id, err := w.hub.Publish(w.ctx, broadcast.Message{Topic: name, Key: l.key, Removed: l.removed, First: l.first, End: l.end, Data: []byte(data)})
	switch {
	case refused && errors.Is(err, broadcast.ErrEnded) && errors.Is(err, broadcast.ErrNotPublished):
		w.tally.Refused++
	case refused || err != nil || id != w.model.id(w.model.head()):
		w.fail("published %v, error %v", id, err)
	}
	w.tally.Messages++
}

// race lets Keys change in turn, faster than a reader polls.
func (w *stateWorld) race(c *stateClient) {
	keys, rate, size := 2+w.rng.IntN(12), 1+w.rng.IntN(4), 1+w.rng.IntN(3)
	name := w.some()[0]
	for range 10 {
		if t := w.model.topics[name]; c.stream == nil || t != nil && t.ended {
			return
		}
		for range rate {
			w.turn++
			w.publish(name, fmt.Sprint("turn", w.turn%keys))
		}
		w.poll(c, size)
	}
}

func (w *stateWorld) burst() {
	name := w.some()[0]
	for range 10 {
		if t := w.model.topics[name]; t != nil && t.ended {
			return
		}
		w.fresh++
		w.publish(name, fmt.Sprint("new", w.fresh%40))
	}
}

func (w *stateWorld) pass(d time.Duration) {
	w.note("%v pass", d)
	time.Sleep(d)
	synctest.Wait() // for what expires in this moment
	w.model.expire()
}

// shut closes the Hub. Streams get what it keeps, and then their end.
func (w *stateWorld) shut() {
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
	for _, c := range w.clients {
		for range 10_000 {
			if c.stream == nil {
				break
			}
			w.poll(c, 1+w.rng.IntN(len(w.buf)))
		}
		if c.stream != nil {
			w.fail("client %d: Poll finds no end", c.number)
		}
	}
}

// check checks what must be true after each operation.
func (w *stateWorld) check() {
	m := &w.model
	open, messages := 0, 0
	for _, c := range w.clients {
		if s := c.stream; s != nil {
			open++
			if s.armed && s.news && s.calls == 0 {
				w.fail("client %d: there is news for a sleeper, and no Notify", c.number)
			}
		}
	}
	for i := range m.log {
		if m.log[i].kept {
			messages++
		}
	}
	got := w.hub.Stats()
	if got.Topics != len(m.topics) || got.Messages != messages || got.Bytes != m.bytes() || got.Subscriptions != open || got.Gaps != m.gaps || got.Position != m.id(m.head()) {
		w.fail("Stats are %+v, want %d topics, %d messages, %d bytes, %d subscriptions, %d gaps", got, len(m.topics), messages, m.bytes(), open, m.gaps)
	}
}

func (w *stateWorld) some() (names []string) {
	for _, i := range w.rng.Perm(len(w.names))[:1+w.rng.IntN(len(w.names))] {
		names = append(names, w.names[i])
	}
	return names
}

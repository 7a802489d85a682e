package broadcast_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// The test in this file runs a Hub beside a small model of it, on one goroutine
// and with a clock of its own, through random sequences of what publishers,
// streams and clients do, and checks after each step:
//
//	each stream sees each message of its topics published after its position
//	exactly once, in order, or is told of a gap where something was lost;
//	no gap is told where nothing was lost.
//
// A run is a list of numbers, and each number decides one operation by itself.
// So a failing run can be cut down to the operations that matter; what is left
// is printed, with the seed.
var (
	modelSeed = flag.Uint64("model.seed", 1, "seed of the first random run of a Hub beside its model; each run has the next")
	modelRuns = flag.Int("model.runs", 0, "how many runs; if zero, 10,000, or as many as take two seconds; less with -short")
)

func TestModel(t *testing.T) {
	const atOnce = 500
	runs, most := *modelRuns, time.Duration(0)
	switch {
	case runs > 0:
	case testing.Short():
		runs, most = 2_000, time.Second
	default:
		// With the race detector, which has nothing to find here, a run takes ten
		// times as long.
		runs, most = 10_000, 2*time.Second
	}
	var seen modelTally
	done, began := 0, time.Now()
	for done < runs && (most == 0 || time.Since(began) < most) {
		some := min(atOnce, runs-done)
		synctest.Test(t, func(t *testing.T) {
			for run := range some {
				seed := *modelSeed + uint64(done+run)
				ops := drawRun(seed)
				if bad := playRun(t.Context(), ops, &seen, nil); bad != "" {
					require.Fail(t, "the Hub and its model disagree", "-model.seed=%d -model.runs=1: %s\n%s", seed, bad, shrinkRun(t.Context(), ops))
				}
			}
		})
		done += some
	}
	t.Logf("%d runs: %+v", done, seen)
	if done < atOnce {
		return
	}
	// A test that never gets where it hurts proves nothing.
	assert.NotZero(t, seen.Gaps)
	assert.NotZero(t, seen.Overruns)
	assert.NotZero(t, seen.Forgotten)
	assert.NotZero(t, seen.Resumed)
	assert.NotZero(t, seen.Changed)
	// The table of forgotten topics is bounded, so that two of them may share a
	// place in it, and one of them be told of a gap that is none: seldom.
	assert.LessOrEqual(t, seen.Collisions, 10+seen.Graves/100, "gaps told for another topic's sake")
}

// modelTally counts what the runs met.
type modelTally struct {
	Messages, Polls, Gaps int
	Overruns              int // gaps told in the middle of a stream
	Resumed, Odd          int // streams begun behind a position; behind one that the log has not
	Forgotten             int // topics forgotten while they held something
	Graves, Collisions    int // resumes that another topic's grave could spoil, and those that it did
	Late                  int // gaps behind the end of a finished stream
	Changed               int // times that a stream was given other topics
}

// drawRun returns a run: the first number decides what the Hub is like, each other
// one an operation.
func drawRun(seed uint64) []uint64 {
	rng := rand.New(rand.NewPCG(seed, 0))
	ops := make([]uint64, 20+rng.IntN(80))
	for i := range ops {
		ops[i] = rng.Uint64()
	}
	return ops
}

// shrinkRun leaves out of a failing run what it fails without, and returns the rest
// as text.
func shrinkRun(ctx context.Context, ops []uint64) string {
	for size := len(ops) / 2; size > 0; {
		shorter := false
		for from := 1; from+size <= len(ops); {
			tried := slices.Concat(ops[:from], ops[from+size:])
			if playRun(ctx, tried, new(modelTally), nil) == "" {
				from += size
				continue
			}
			ops, shorter = tried, true
		}
		if !shorter || size > 1 {
			size /= 2
		}
	}
	var trace strings.Builder
	bad := playRun(ctx, ops, new(modelTally), &trace)
	return "the shortest way there:\n" + trace.String() + "then: " + bad
}

// violation is what a step panics with when the Hub breaks a promise.
type violation string

// playRun runs ops and returns what went wrong, or "".
func playRun(ctx context.Context, ops []uint64, seen *modelTally, trace *strings.Builder) (bad string) {
	w := &world{ctx: ctx, tally: seen, trace: trace, source: new(rand.PCG), buf: make([]*broadcast.Message, 8)}
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

// world is the Hub with its publishers, streams and clients, and the model.
type world struct {
	ctx    context.Context
	source *rand.PCG // seeded anew for each operation
	rng    *rand.Rand
	tally  *modelTally
	trace  *strings.Builder // nil: nobody reads it
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

// begin makes the world that a number stands for.
func (w *world) begin(seed uint64) {
	w.source.Seed(seed, 0)
	w.names = []string{"a", "b", "c", "d", "e", "f"}[:1+w.rng.IntN(6)]
	w.model.keep = 1 + w.rng.IntN(8)
	w.model.keepBytes = 4 << 10 // more than they ever publish and keep
	if w.rng.IntN(3) == 0 {
		w.model.keepBytes = int64(10 + w.rng.IntN(60))
	}
	w.model.ttl = time.Minute
	for range 1 + w.rng.IntN(5) {
		w.clients = append(w.clients, &modelClient{number: len(w.clients), filter: w.rng.IntN(4) == 0})
	}
	w.restart()
}

// restart begins with a new Hub, of which nobody has heard.
func (w *world) restart() {
	w.model = model{keep: w.model.keep, keepBytes: w.model.keepBytes, ttl: w.model.ttl, topics: make(map[string]*modelTopic), graves: make(map[string]int)}
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

// refuse tries what must leave no trace.
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

// shut closes the Hub: what it keeps is owed to the streams still, and nothing
// else.
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

// check looks at what must hold after each operation.
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

// model is what a Hub should have.
type model struct {
	keep      int
	keepBytes int64
	ttl       time.Duration
	epoch     uint64

	log      []modelMessage // the message of sequence n is at n-1
	topics   map[string]*modelTopic
	unused   []string       // topics without subscriptions, the longest unused first
	graves   map[string]int // how far forgotten topics got
	messages int
	bytes    int64
	gaps     uint64
}

// modelMessage is a message of the whole history.
type modelMessage struct {
	topic string
	size  int64
	gone  bool               // no longer kept
	seen  *broadcast.Message // as it was first returned: all get the same
}

// modelTopic is a topic that is remembered.
type modelTopic struct {
	kept  []int // sequences
	held  bool  // a message, ever
	links int
	used  time.Time
}

func (m *model) head() int                { return len(m.log) }
func (m *model) id(seq int) broadcast.ID  { return broadcast.MakeID(m.epoch, uint64(seq)) }
func (m *model) at(seq int) *modelMessage { return &m.log[seq-1] }

func (m *model) topic(name string) *modelTopic {
	if m.topics[name] == nil {
		m.topics[name] = new(modelTopic)
	}
	return m.topics[name]
}

func (m *model) publish(name string, size int64, seen *modelTally) {
	m.expire(seen)
	t := m.topic(name)
	for len(t.kept) >= m.keep {
		m.evict(t)
	}
	m.log = append(m.log, modelMessage{topic: name, size: size})
	t.kept, t.held = append(t.kept, m.head()), true
	m.messages++
	m.bytes += size
	for oldest := 1; m.bytes > m.keepBytes; oldest++ {
		if l := m.at(oldest); !l.gone {
			m.evict(m.topics[l.topic])
		}
	}
	m.touch(name)
}

func (m *model) evict(t *modelTopic) {
	oldest := m.at(t.kept[0])
	oldest.gone = true
	t.kept = t.kept[1:]
	m.messages--
	m.bytes -= oldest.size
}

// touch makes a topic without subscriptions the one used last.
func (m *model) touch(name string) {
	t := m.topics[name]
	if t.links > 0 {
		return
	}
	m.unused = append(slices.DeleteFunc(m.unused, func(n string) bool { return n == name }), name)
	t.used = time.Now()
}

// expire forgets two topics at most that nobody has used for ttl.
func (m *model) expire(seen *modelTally) {
	for range 2 {
		if len(m.unused) == 0 || time.Since(m.topics[m.unused[0]].used) < m.ttl {
			return
		}
		name := m.unused[0]
		m.unused = m.unused[1:]
		if len(m.topics[name].kept) > 0 {
			seen.Forgotten++
		}
		for len(m.topics[name].kept) > 0 {
			m.evict(m.topics[name])
		}
		delete(m.topics, name)
		for seq := m.head(); seq > 0; seq-- {
			if m.at(seq).topic == name {
				m.graves[name] = seq
				break
			}
		}
	}
}

func (m *model) subscribe(names []string, seen *modelTally) {
	m.expire(seen)
	for _, name := range names {
		m.topic(name).links++
		m.unused = slices.DeleteFunc(m.unused, func(n string) bool { return n == name })
	}
}

func (m *model) unsubscribe(names []string) {
	for _, name := range names {
		t := m.topics[name]
		t.links--
		switch {
		case t.links > 0:
		case t.held:
			m.touch(name)
		default:
			delete(m.topics, name)
		}
	}
}

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

	after   int          // it, or its topics' last change, begins behind this sequence
	begin   broadcast.ID // what it tells its client first
	odd     bool         // the log has no such position: a gap comes first
	fresh   bool         // it has not been polled, but for the backlog
	changed bool         // it has not been polled since it has its topics
	backlog []int        // what Last asked for
	at      int          // all up to here was returned, or told as lost
	end     int          // the last sequence it is owed; -1: it goes on
	told    []*claim     // by sequence: the gap that told of its loss
	queue   []modelItem  // polled, not written
	drained bool         // the last Poll was empty

	// What the client can know to have, by what was written to it.
	written  []bool // or left out by the filter, or told as lost
	complete int    // as far as it was looked at

	armed, news bool // the last Poll was empty; there has been news since
	slept       bool // there was an empty Poll
	calls       int  // of Notify, since the last empty Poll
	early       bool // there was a call before the first
}

// claim is that a gap named a topic: wrong if in the end all that seemed lost is
// returned.
type claim struct {
	topic   string
	lost    int
	excused bool // there may be such a gap without a loss
}

// modelItem is something to write: a message, or a position.
type modelItem struct {
	seq   int          // 0: no message
	id    broadcast.ID // zero: it goes out without
	lost  []int        // what the gap tells of
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

// some returns some of the topics there are.
func (w *world) some() (names []string) {
	for _, i := range w.rng.Perm(len(w.names))[:1+w.rng.IntN(len(w.names))] {
		names = append(names, w.names[i])
	}
	return names
}

// change gives a stream other topics. All that was polled is written before, and the
// client is told from where they hold.
func (w *world) change(c *modelClient) {
	s := c.stream
	if s.fresh || s.end >= 0 {
		return // nobody asks for it then
	}
	w.write(c, len(s.queue))
	w.told(c, s.sub.Position())
	names := w.some()
	w.note("client %d changes to %v from %v", c.number, names, s.sub.Position())
	before, position := s.names, s.sub.Position()
	w.model.subscribe(names, w.tally)
	w.model.unsubscribe(before)
	for seq := range s.told {
		if claim := s.told[seq]; claim != nil && !slices.Contains(names, claim.topic) {
			s.told[seq] = nil // it may be told again to who comes back to the topic
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
		shuffled := w.rng.Perm(len(w.names))[:1+w.rng.IntN(len(w.names))]
		c.topics = nil
		for _, i := range shuffled {
			c.topics = append(c.topics, w.names[i])
		}
	}
	s.name(c.topics)
	asked := s.names
	if w.rng.IntN(8) == 0 {
		asked = append(slices.Clone(asked), asked[0]) // to name a topic twice changes nothing
	}

	after, last := c.position, 0
	switch w.rng.IntN(16) {
	case 0:
		after = broadcast.ID{}
	case 1:
		after = m.id(m.head() + 1 + w.rng.IntN(3)) // the future
	case 2:
		after = broadcast.MakeID(m.epoch^2, uint64(w.rng.IntN(m.head()+2)))
	case 3:
		after = broadcast.MakeID(1, uint64(w.rng.IntN(m.head()+2))) // reserved for a place that nobody knows
	case 4, 5, 6, 7:
		if len(c.had) > 0 {
			after = c.had[len(c.had)-1-w.rng.IntN(min(len(c.had), 8))]
		}
	}
	if after.IsZero() && w.rng.IntN(2) == 0 {
		last = w.rng.IntN(m.keep + 2)
	}

	m.subscribe(s.names, w.tally)
	head := m.head()
	switch {
	case after.IsZero():
		s.after, s.begin = head, m.id(head)
		for _, name := range s.names {
			kept := m.topics[name].kept
			s.backlog = append(s.backlog, kept[len(kept)-min(last, len(kept)):]...)
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
	w.note("client %d opens %v after %q, Last %d", c.number, asked, after, last)

	sub, err := w.hub.Subscribe(w.ctx, broadcast.SubscribeOptions{Topics: asked, After: after, Last: last, Notify: func() {
		// A violation here would be taken for the subscriber's own panic.
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

// cut ends a stream at once: the client has what was written to it, and no more.
func (w *world) cut(c *modelClient) {
	s := c.stream
	if s == nil {
		return
	}
	w.note("client %d is cut, at %v", c.number, c.position)
	w.model.unsubscribe(s.names)
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

// drain polls until nothing is left and writes all of it. Only then the position
// may be told.
func (w *world) drain(c *modelClient) {
	for range w.model.head() + 100 {
		if c.stream == nil {
			return
		}
		if c.stream.drained && len(c.stream.queue) == 0 {
			w.note("client %d is told the position %v", c.number, c.stream.sub.Position())
			w.told(c, c.stream.sub.Position())
			return
		}
		w.write(c, 1+w.rng.IntN(8))
		w.poll(c, 1+w.rng.IntN(len(w.buf)))
	}
	w.fail("client %d: Poll finds no end", c.number)
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
		w.told(c, it.id)
	}
	if n > 0 {
		w.note("client %d is written %d of %d, now at %v", c.number, n, len(s.queue), c.position)
	}
	s.queue = s.queue[n:]
}

// told is that the client learns an ID: it will believe to have everything up
// to there.
func (w *world) told(c *modelClient, id broadcast.ID) {
	s := c.stream
	c.position = id
	c.had = append(c.had, id)
	s.written = grown(s.written, w.model.head())
	for seq := s.complete + 1; seq <= int(id.Seq()); seq++ {
		if s.topics[w.model.at(seq).topic] && !s.written[seq] {
			w.fail("client %d is told %v and never got %d", c.number, id, seq)
		}
	}
	s.complete = max(s.complete, int(id.Seq()))
}

// poll polls once, with room for size messages, and compares what comes with
// what must.
func (w *world) poll(c *modelClient, size int) {
	s, m := c.stream, &w.model
	if s == nil {
		return
	}
	w.tally.Polls++
	n, err := s.sub.Poll(w.buf[:size])
	polled := w.buf[:n]
	if w.trace != nil {
		w.note("client %d polls %d: %v, error %v, position %v", c.number, size, sequences(polled), err, s.sub.Position())
	}
	s.armed, s.drained = false, false
	if len(s.backlog) > 0 {
		w.pollBacklog(c, polled, size, err)
		return
	}

	limit := s.limit(m.head())
	var gap *broadcast.GapError
	closed := errors.Is(err, broadcast.ErrClosed)
	switch {
	case closed && (s.end < 0 || n > 0):
		w.fail("client %d: ErrClosed with %d messages, end %d", c.number, n, s.end)
	case err != nil && !closed && (!errors.Is(err, broadcast.ErrGap) || !errors.As(err, &gap)):
		w.fail("client %d: Poll: %v", c.number, err)
	case err == nil && n == 0 && s.end >= 0:
		w.fail("client %d: an empty Poll where the end is due", c.number)
	}

	s.told = grown(s.told, m.head())
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
	for seq := s.at + 1; seq <= passed; seq++ {
		l := m.at(seq)
		switch {
		case !s.topics[l.topic] || s.told[seq] != nil:
		case slices.ContainsFunc(polled, func(msg *broadcast.Message) bool { return int(msg.ID.Seq()) == seq }):
		case l.gone:
			w.fail("client %d: %d was lost in silence", c.number, seq)
		default:
			w.fail("client %d: %d is kept and was left out", c.number, seq)
		}
	}
	s.at = passed
	if (s.fresh || s.changed) && !s.odd {
		for _, name := range s.names {
			if w.spoilt(s, name) {
				w.tally.Graves++
			}
		}
	}
	if s.odd && gap == nil {
		w.fail("client %d: no gap behind a position that the log has not", c.number)
	}
	if s.sub.Position() != position {
		w.fail("client %d: the position is %v, want %v", c.number, s.sub.Position(), position)
	}

	switch {
	case gap != nil:
		s.queue = append(s.queue, modelItem{id: gap.ID, lost: lost, isGap: true})
	case s.fresh:
		s.queue = append(s.queue, modelItem{id: s.begin})
	}
	for _, msg := range polled {
		s.queue = append(s.queue, modelItem{seq: int(msg.ID.Seq()), id: msg.ID})
	}
	s.odd, s.fresh, s.changed = false, false, false
	switch {
	case closed:
		s.drained = true
		w.ended(c)
	case err == nil && n == 0:
		s.drained = true
		s.armed, s.slept, s.news, s.calls = true, true, false, 0
	}
}

// ended closes a stream that got all that it was owed. Sometimes it is written
// to the end, sometimes the client is cut before.
func (w *world) ended(c *modelClient) {
	if n, err := c.stream.sub.Poll(w.buf); n != 0 || !errors.Is(err, broadcast.ErrClosed) {
		w.fail("client %d: Poll behind the end: %d, %v", c.number, n, err)
	}
	if w.rng.IntN(2) == 0 {
		w.write(c, len(c.stream.queue))
		w.told(c, c.stream.sub.Position())
	}
	w.cut(c)
}

// pollBacklog checks a Poll that returns what Last asked for: it lies before the
// position and goes out without IDs, so that a client cut meanwhile gets it
// again.
func (w *world) pollBacklog(c *modelClient, polled []*broadcast.Message, size int, err error) {
	s := c.stream
	want := s.backlog[:min(size, len(s.backlog))]
	if got := sequences(polled); err != nil || !slices.Equal(got, want) {
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

// returned checks a message that comes behind another and not beyond limit.
func (w *world) returned(c *modelClient, msg *broadcast.Message, behind, limit int) {
	s, seq := c.stream, int(msg.ID.Seq())
	if msg.ID.Epoch() != w.model.epoch || seq <= behind || seq > limit || !s.topics[msg.Topic] {
		w.fail("client %d: got %v on %s behind %d, limit %d", c.number, msg.ID, msg.Topic, behind, limit)
	}
	w.same(msg)
	// The subscription held it when its ring let go of it: it was not lost after
	// all.
	if told := s.told[seq]; told != nil {
		if told.lost--; told.lost == 0 && !told.excused {
			w.fail("client %d: a gap on %s was told, and nothing was lost", c.number, told.topic)
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

// gap checks a gap that came with polled, and returns what it tells of.
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
		w.fail("client %d: a gap in %v behind a position that the log has not: all may have lost something", c.number, named)
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
			if l.topic != name || !l.gone || s.told[seq] != nil ||
				slices.ContainsFunc(polled, func(msg *broadcast.Message) bool { return int(msg.ID.Seq()) == seq }) {
				continue
			}
			s.told[seq] = claim
			claim.lost++
			lost = append(lost, seq)
		}
		late := w.lateLoss(s, name, limit)
		claim.excused = s.odd || late
		switch {
		case claim.lost > 0 || s.odd:
		case late:
			w.tally.Late++
		case (s.fresh || s.changed) && w.spoilt(s, name):
			w.tally.Collisions++
		default:
			w.fail("client %d: a gap in %s, which has lost nothing that was not told before", c.number, name)
		}
	}
	return lost
}

// lateLoss reports whether a topic lost something behind the end of a stream
// that has one: whether there was more, before the end, the Hub no longer knows.
func (w *world) lateLoss(s *modelStream, name string, limit int) bool {
	return s.end >= 0 && slices.ContainsFunc(w.model.log[limit:], func(l modelMessage) bool { return l.topic == name && l.gone })
}

// spoilt reports whether a topic was forgotten that got beyond where the stream
// begins: in the bounded table of such topics it may stand where name stood.
func (w *world) spoilt(s *modelStream, name string) bool {
	for other, newest := range w.model.graves {
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

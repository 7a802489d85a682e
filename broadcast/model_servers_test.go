package broadcast_test

import (
	"cmp"
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
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
)

// TestModelOfServers runs one to three Hubs on a journal through random sequences of what
// publishers, clients and the engine do. The oracle knows every entry of every epoch. After
// each step it checks:
//
//	a stream gets each message of its topics after its position once, in order, or a gap
//	where something was lost, and never after the first message that follows the loss;
//	an epoch is entered with a gap;
//	a stream without After begins after what its Hub has published, and Position is not
//	before that;
//	no gap comes to a stream that nothing was lost for, as long as the engine loses nothing;
//	once the engine has answered a server, its streams have everything within a moment.
func TestModelOfServers(t *testing.T) {
	runs, most := max(1, *modelRuns/3), time.Duration(0)
	switch {
	case *modelRuns > 0:
	case testing.Short():
		runs, most = 500, time.Second
	default:
		runs, most = 3_000, 2*time.Second
	}
	tally := map[string]int{}
	done, began := 0, time.Now()
	for done < runs && (most == 0 || time.Since(began) < most) {
		seed := *modelSeed + uint64(done)
		ops := drawRun(seed)
		if bad, trace := playServers(t, ops, tally); bad != "" {
			require.Fail(t, "the Hubs and the oracle disagree", "-model.seed=%d -model.runs=1: %s\n%s", seed, bad, shrinkServers(t, ops, trace))
		}
		done++
	}
	t.Logf("%d runs: %v", done, tally)
	if done < 200 {
		return
	}
	for _, what := range []string{"gaps", "epochs", "changes", "resumed", "finished", "served by history"} {
		assert.NotZero(t, tally[what], what)
	}
}

// shrinkServers leaves out of a failing run what it fails without, and returns how the rest
// failed.
func shrinkServers(t *testing.T, ops []uint64, trace string) string {
	for size := len(ops) / 2; size > 0; size /= 2 {
		for from := 1; from+size <= len(ops); {
			tried := slices.Concat(ops[:from], ops[from+size:])
			if bad, way := playServers(t, tried, map[string]int{}); bad != "" {
				ops, trace = tried, way+"then: "+bad
				continue
			}
			from += size
		}
	}
	return "the shortest way there:\n" + trace
}

// playServers runs ops in a bubble, and returns what went wrong, or "", and what was done.
func playServers(t *testing.T, ops []uint64, tally map[string]int) (bad, trace string) {
	synctest.Test(t, func(t *testing.T) {
		source := new(rand.PCG)
		w := &cluster{t: t, rng: rand.New(source), tally: tally, logs: make(map[uint64][]logged)}
		defer func() {
			trace = w.trace.String()
			if p := recover(); p != nil {
				v, ok := p.(violation)
				if !ok {
					panic(p)
				}
				bad = string(v)
			}
			w.end()
		}()
		source.Seed(ops[0], 0)
		w.begin()
		for _, op := range ops[1:] {
			source.Seed(op, 1)
			w.step()
			synctest.Wait()
		}
		w.heal()
	})
	return bad, trace
}

// cluster is the servers, their clients, and what the oracle knows.
type cluster struct {
	t     *testing.T
	rng   *rand.Rand
	tally map[string]int
	trace strings.Builder
	now   int // counts steps

	engine  *broadcasttest.Journal
	servers []*clusterServer
	clients []*clusterClient
	keep    int
	trimmed bool // the engine has removed old entries

	epoch uint64
	logs  map[uint64][]logged // by epoch; the entry of sequence n is at n-1
}

// logged is an entry of the log.
type logged struct {
	topic string
	at    int            // the step in which it was published
	by    *clusterServer // nil: none of these
}

type clusterServer struct {
	*server
	published broadcast.ID // the newest that its Publish returned
}

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
}

func (w *cluster) fail(format string, args ...any) { panic(violation(fmt.Sprintf(format, args...))) }

func (w *cluster) note(format string, args ...any) { fmt.Fprintf(&w.trace, "  "+format+"\n", args...) }

func (w *cluster) begin() {
	w.engine = new(broadcasttest.Journal)
	w.keep = []int{2, 256}[w.rng.IntN(2)]
	w.newEpoch(0)
	for range w.rng.IntN(4) { // before the servers start
		w.append()
	}
	for i := range 1 + w.rng.IntN(3) {
		s := &clusterServer{server: newStoppedServer(w.t, w.engine, nil)}
		s.Keep = w.keep
		if w.rng.IntN(4) == 0 {
			s.node.Fail(errAway)
			w.note("the engine is away for server %d", i)
		}
		s.start()
		w.servers = append(w.servers, s)
	}
	for i := range 1 + w.rng.IntN(3) {
		w.clients = append(w.clients, &clusterClient{number: i})
	}
	w.note("%d servers, Keep %d", len(w.servers), w.keep)
	if w.rng.IntN(3) > 0 {
		synctest.Wait()
	}
}

// end closes everything, also after a violation.
func (w *cluster) end() {
	for _, c := range w.clients {
		if c.stream != nil {
			c.stream.sub.Close()
		}
	}
	for _, s := range w.servers {
		s.Close()
		<-s.ended
		s.ended = nil
	}
}

// newEpoch notes that the engine has an epoch that begins with so many entries of the one
// before.
func (w *cluster) newEpoch(kept int) {
	_, newest, err := w.engine.Bounds(w.t.Context())
	if err != nil {
		w.fail("Bounds: %v", err)
	}
	w.logs[newest.Epoch()] = slices.Clone(w.logs[w.epoch][:kept])
	w.epoch = newest.Epoch()
	for _, c := range w.clients {
		if c.stream != nil {
			c.stream.mayGap = true
		}
	}
	w.tally["epochs"]++
}

func (w *cluster) newest() broadcast.ID {
	return broadcast.MakeID(w.epoch, uint64(len(w.logs[w.epoch])))
}

// published notes an entry.
func (w *cluster) published(id broadcast.ID, topic string, by *clusterServer) {
	log := w.logs[id.Epoch()]
	if int(id.Seq()) != len(log)+1 {
		w.fail("published %v after %d", id, len(log))
	}
	w.logs[id.Epoch()] = append(log, logged{topic, w.now, by})
	for _, c := range w.clients {
		if s := c.stream; s != nil && s.isFresh() && slices.Contains(s.topics, topic) {
			s.mayGap = true // it may not be told from what was published before
		}
	}
}

// append is what a server that is not one of these publishes.
func (w *cluster) append() {
	topic := w.topic()
	ids, err := w.engine.Append(w.t.Context(), broadcast.Message{Topic: topic})
	if err != nil {
		w.fail("Append: %v", err)
	}
	w.published(ids[0], topic, nil)
	w.note("append %v on %s", ids[0], topic)
}

func (w *cluster) publish(i int, topic string) {
	s := w.servers[i]
	id, err := s.Publish(w.t.Context(), broadcast.Message{Topic: topic})
	w.note("server %d publishes %v on %s, error %v", i, id, topic, err)
	if err != nil {
		return
	}
	w.published(id, topic, s)
	s.published = id
	w.checkPosition(i)
}

// checkPosition checks that the Position of a server is not before what it has published.
func (w *cluster) checkPosition(i int) {
	s := w.servers[i]
	position := s.position()
	if s.published.Epoch() == w.epoch && (position.Epoch() != w.epoch || position.Seq() < s.published.Seq()) {
		w.fail("server %d has published %v, and its Position is %v", i, s.published, position)
	}
}

func (w *cluster) topic() string { return string(rune('a' + w.rng.IntN(3))) }

func (w *cluster) some() (names []string) {
	for _, i := range w.rng.Perm(3)[:1+w.rng.IntN(3)] {
		names = append(names, string(rune('a'+i)))
	}
	return names
}

// step is one random operation.
func (w *cluster) step() {
	w.now++
	i := w.rng.IntN(len(w.servers))
	c := w.clients[w.rng.IntN(len(w.clients))]
	switch what := w.rng.IntN(100); {
	case what < 22:
		w.publish(i, w.topic())
	case what < 27:
		w.append()
	case what < 60 && c.stream == nil:
		w.open(c, i)
	case what < 50:
		w.poll(c, 1+w.rng.IntN(4))
	case what < 60:
		w.drain(c)
	case what < 66:
		w.cut(c)
	case what < 69 && c.stream != nil:
		w.finish(c)
	case what < 75 && c.stream != nil:
		w.change(c)
	case what < 80:
		w.pass([]time.Duration{time.Millisecond, time.Second, 20 * time.Second}[w.rng.IntN(3)])
	default:
		w.fault(w.rng.IntN(9), i)
	}
	for i := range w.servers {
		w.checkPosition(i)
	}
}

func (w *cluster) pass(d time.Duration) {
	w.note("%v pass", d)
	time.Sleep(d)
}

func (w *cluster) fault(what, i int) {
	node := w.servers[i].node
	w.note("fault %d of server %d", what, i)
	switch what {
	case 0:
		node.Hold()
	case 1, 2:
		node.Release()
	case 3:
		node.Fail(errAway)
	case 4, 5:
		node.Fail(nil)
	case 6:
		w.engine.Recreate()
		w.newEpoch(0)
	case 7:
		n := w.rng.IntN(3)
		w.engine.LoseTail(n)
		w.newEpoch(max(0, len(w.logs[w.epoch])-n))
	case 8:
		if w.rng.IntN(3) == 0 {
			w.engine.Trim(1 + w.rng.IntN(4))
			w.trimmed = true
		} else {
			w.engine.Restart()
		}
	}
}

// heal ends all faults. A server that the engine has answered goes on within a moment, and
// nobody is left without the last messages.
func (w *cluster) heal() {
	w.note("all heals")
	for i, s := range w.servers {
		s.node.Release()
		s.node.Fail(nil)
		for _, topic := range []string{"a", "b", "c"} {
			w.publish(i, topic)
		}
	}
	time.Sleep(300 * time.Millisecond)
	synctest.Wait()
	for _, c := range w.clients {
		if s := c.stream; s != nil {
			w.drain(c)
			if c.stream != nil && s.sub.Position() != w.newest() {
				w.fail("client %d is left at %v, the newest is %v (%s)", c.number, s.sub.Position(), w.newest(), s.server.Stage(s.sub))
			}
		}
	}
}

func (w *cluster) history(s *clusterStream) {
	if s.server.Stage(s.sub) == "reading history" {
		w.tally["served by history"]++
	}
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
	known := server.Stats().Position
	sub, err := server.Subscribe(w.t.Context(), broadcast.SubscribeOptions{Topics: c.topics, After: after, Last: last, Notify: func() { s.notices++ }})
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
	n, err := s.sub.Poll(buf)
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
	if err == broadcast.ErrClosed {
		if !s.closing {
			w.fail("client %d: closed", c.number)
		}
		c.leave()
		return true
	}
	return n == 0 && err == nil
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
	s.at = id
}

// gap checks a gap, which reports what comes before the next message of a topic, up to the
// head at most.
func (w *cluster) gap(c *clusterClient, gap *broadcast.GapError) {
	s := c.stream
	w.tally["gaps"]++
	overrun := w.keep < 256 && !s.isFresh()
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
		s.at = broadcast.MakeID(gap.ID.Epoch(), 0)
	}
	if s.future && gap.ID.Epoch() == s.at.Epoch() {
		s.at, s.future = gap.ID, false
	}
	named := gap.Topics
	if named == nil {
		named = s.topics
	}
	for _, name := range named {
		s.lost[name] = cmp.Or(max(s.lost[name], head), 0)
	}
	s.state = 0
}

package broadcast_test

import (
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
	"github.com/fanfare-go/fanfare/internal/longtest"
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
//	once the engine has answered a server, its streams have everything within a moment;
//	a server whose tail yields nothing of what its engine has ends its streams, and only such
//	a server does;
//	Following, Behind and Ready are what the oracle sees.
func TestModelOfServers(t *testing.T) {
	t.Parallel()
	runs, most := max(1, *modelRuns/3), time.Duration(0)
	switch {
	case *modelRuns > 0:
	case !longtest.Enabled():
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
	for _, what := range []string{"gaps", "epochs", "changes", "resumed", "finished", "served by history", "deaf", "survived", "skipped"} {
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
		w := &cluster{t: t, rng: rand.New(source), tally: tally, logs: make(map[uint64][]logged), survived: make(map[uint64]int)}
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

	epoch    uint64
	logs     map[uint64][]logged // by epoch; the entry of sequence n is at n-1
	survived map[uint64]int      // by epoch: its entries up to this one are those of the current epoch
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

	held, away bool      // the faults of its node
	faulty     time.Time // when they last changed
	at         broadcast.ID
	stoodSince time.Time       // since when the head has been there, before the newest; zero: it is not
	deaf       bool            // as the Hub says, since streams cannot begin
	entered    map[uint64]bool // the epochs in which it has been
	watched    time.Time       // when the oracle looked last
	mayStand   time.Time       // when it did before stoodSince
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
		s := &clusterServer{server: newStoppedServer(w.t, w.engine, nil), faulty: time.Now(), entered: map[uint64]bool{}}
		s.Keep = w.keep
		if w.rng.IntN(4) == 0 {
			s.node.Fail(errAway)
			s.away = true
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
	w.survived[w.epoch] = kept
	for epoch, seq := range w.survived {
		w.survived[epoch] = min(seq, kept)
	}
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
		w.fault(w.rng.IntN(10), i)
	}
	for i := range w.servers {
		w.checkPosition(i)
		w.watch(i)
	}
}

func (w *cluster) pass(d time.Duration) {
	w.note("%v pass", d)
	for ; d > time.Second; d -= time.Second {
		time.Sleep(time.Second)
		for i := range w.servers {
			w.watch(i)
		}
	}
	time.Sleep(d)
}

func (w *cluster) fault(what, i int) {
	s := w.servers[i]
	w.note("fault %d of server %d", what, i)
	switch what {
	case 0:
		s.set(true, s.away)
	case 1, 2:
		s.set(false, s.away)
	case 3:
		s.set(s.held, true)
	case 4, 5:
		s.set(s.held, false)
	case 6:
		w.engine.Recreate()
		w.newEpoch(0)
	case 7:
		n := w.rng.IntN(3)
		w.engine.LoseTail(n)
		w.newEpoch(max(0, len(w.logs[w.epoch])-n))
	case 9:
		if !s.held && !s.away {
			w.lapse(s)
		}
	case 8:
		if w.rng.IntN(3) == 0 {
			w.trim(1 + w.rng.IntN(4))
		} else {
			w.engine.Restart()
			for _, s := range w.servers {
				s.faulty = time.Now()
			}
		}
	}
}

// lapse lets the tail of a server lose entries.
func (w *cluster) lapse(s *clusterServer) {
	s.node.Hold()
	for range 1 + w.rng.IntN(3) {
		w.append()
	}
	w.trim(1 + w.rng.IntN(2*len(w.logs[w.epoch])))
	s.node.Release()
}

// trim removes old entries. These are events, of which compaction leaves nothing either.
func (w *cluster) trim(n int) {
	w.trimmed = true
	if w.rng.IntN(2) == 0 {
		w.engine.Compact(n)
		return
	}
	w.engine.Trim(n)
}

// modelHeals is how long it takes until all is well again: if earlier answers of the engine did
// not help, a tail and then those that wait for it pause for up to 5 s each.
const modelHeals = 11 * time.Second

// heal ends all faults, after which nobody is left without the last messages.
func (w *cluster) heal() {
	w.note("all heals")
	for i, s := range w.servers {
		s.set(false, false)
		for _, topic := range []string{"a", "b", "c"} {
			w.publish(i, topic)
		}
	}
	time.Sleep(modelHeals)
	synctest.Wait()
	for _, c := range w.clients {
		if s := c.stream; s != nil {
			w.drain(c)
			synctest.Wait() // for what is still read for it
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

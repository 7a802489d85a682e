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

// TestModelOfServersWithKeys runs one to three Hubs on a journal whose topics have Keys, through
// random sequences of what publishers, clients and the engine do. A client may be cut after any
// message, and moves between the servers. It checks that no older message of a Key or event comes
// after a newer one, and, once all has healed, what each client has of each Key and of the events:
// what is the newest in the journal, unless it was told since that it may lack that.
func TestModelOfServersWithKeys(t *testing.T) {
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
	for ; done < runs && (most == 0 || time.Since(began) < most); done++ {
		seed := *modelSeed + uint64(done)
		ops := drawRun(seed)
		bad, trace := playShared(t, ops, tally)
		if bad == "" {
			continue
		}
		for size := len(ops) / 2; size > 0; size /= 2 {
			for from := 1; from+size <= len(ops); {
				tried := slices.Concat(ops[:from], ops[from+size:])
				if b, way := playShared(t, tried, map[string]int{}); b != "" {
					ops, bad, trace = tried, b, way
					continue
				}
				from += size
			}
		}
		require.Fail(t, "the Hubs and the oracle disagree", "-model.seed=%d -model.runs=1: %s\n%s", seed, bad, trace)
	}
	t.Logf("%d runs: %v", done, tally)
	if done >= 200 {
		for _, what := range []string{"gaps", "begins", "partial", "epochs", "checked", "compacted", "replaced"} {
			assert.NotZero(t, tally[what], what)
		}
	}
}

// shared is the servers, and the log as the journal has it.
type shared struct {
	t       *testing.T
	rng     *rand.Rand
	tally   map[string]int
	trace   strings.Builder
	engine  *broadcasttest.Journal
	servers []*server
	clients []*sharedClient
	log     []broadcast.Message // of the epoch; those of sequence n are at n-1
	epoch   uint64
	lossy   bool // the engine has lost something
}

// sharedClient is what a client has.
type sharedClient struct {
	number     int
	beginning  bool
	topics     []string
	position   broadcast.ID
	sub        broadcast.Subscription // nil: it is away
	server     *server
	unanswered bool                    // it has asked for other topics, and not all of them have begun
	values     map[string]broadcast.ID // by topic and Key: the newest message
	events     map[string]broadcast.ID // by topic
	began      map[string]broadcast.ID // since when nothing may be missing; zero epoch: it may lack everything
	connected  map[string]broadcast.ID // the newest message of each Key on this connection
}

func (w *shared) note(format string, args ...any) { fmt.Fprintf(&w.trace, "  "+format+"\n", args...) }
func (w *shared) fail(format string, args ...any) { panic(violation(fmt.Sprintf(format, args...))) }

func playShared(t *testing.T, ops []uint64, tally map[string]int) (bad, trace string) {
	synctest.Test(t, func(t *testing.T) {
		source := new(rand.PCG)
		w := &shared{t: t, rng: rand.New(source), tally: tally, engine: new(broadcasttest.Journal)}
		defer func() {
			if p := recover(); p != nil {
				v, ok := p.(violation)
				if !ok {
					panic(p)
				}
				bad = string(v)
			}
			trace = w.trace.String() + "then: " + bad
			for _, c := range w.clients {
				w.leave(c)
			}
			for _, s := range w.servers {
				s.Close()
				<-s.ended
				s.ended = nil
			}
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

func (w *shared) begin() {
	w.newEpoch(0)
	for range w.rng.IntN(6) {
		w.publish()
	}
	if w.rng.IntN(3) == 0 {
		w.engine.Trim(1 + w.rng.IntN(3))
		w.lossy = true
	}
	keep, values := []int{2, 256}[w.rng.IntN(2)], []int{2, 5, 100}[w.rng.IntN(3)]
	for range 1 + w.rng.IntN(3) {
		s := newStoppedServer(w.t, w.engine, nil)
		s.Keep, s.Values = keep, values
		s.start()
		w.servers = append(w.servers, s)
	}
	for i := range 1 + w.rng.IntN(3) {
		w.clients = append(w.clients, &sharedClient{number: i, beginning: w.rng.IntN(2) == 0})
	}
	w.note("%d servers, Keep %d, Values %d", len(w.servers), keep, values)
	synctest.Wait()
}

func (w *shared) newEpoch(kept int) {
	_, newest, err := w.engine.Bounds(w.t.Context())
	require.NoError(w.t, err)
	for _, c := range w.clients { // what they may lack of the entries that are still there they still may
		for topic, began := range c.began {
			if began.Epoch() == w.epoch {
				c.began[topic] = broadcast.MakeID(newest.Epoch(), min(began.Seq(), uint64(kept)))
			}
		}
	}
	w.log, w.epoch = slices.Clone(w.log[:kept]), newest.Epoch()
	w.tally["epochs"]++
}

// publish appends a message to the journal, past the servers, so that their ends refuse nothing.
func (w *shared) publish() {
	m := broadcast.Message{Topic: string(rune('a' + w.rng.IntN(2)))}
	switch what := w.rng.IntN(10); {
	case what < 6:
		m.Key, m.Removed = fmt.Sprint("k", w.rng.IntN(8)), w.rng.IntN(4) == 0
	case what == 6:
		m.First = true
	}
	ids, err := w.engine.Append(w.t.Context(), m)
	require.NoError(w.t, err)
	m.ID = ids[0]
	w.log = append(w.log, m)
	w.note("%v on %s: key %q removed %v first %v", m.ID, m.Topic, m.Key, m.Removed, m.First)
}

func (w *shared) step() {
	c, node := w.clients[w.rng.IntN(len(w.clients))], w.servers[w.rng.IntN(len(w.servers))].node
	switch what := w.rng.IntN(100); {
	case what < 30:
		for range 1 + w.rng.IntN(3) {
			w.publish()
		}
	case what < 70 && c.sub == nil:
		w.open(c)
	case what < 55:
		w.poll(c, 1+w.rng.IntN(4))
	case what < 62:
		w.drain(c)
	case what < 70:
		w.leave(c)
	case what < 76 && c.sub != nil:
		w.change(c)
	case what < 82:
		time.Sleep([]time.Duration{time.Millisecond, time.Second, 20 * time.Second}[w.rng.IntN(3)])
	default:
		w.fault(node)
	}
}

func (w *shared) fault(node *broadcasttest.Journal) {
	what := w.rng.IntN(12)
	w.lossy = w.lossy || what >= 6 && what <= 8
	w.note("fault %d", what)
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
		w.newEpoch(max(0, len(w.log)-n))
	case 8:
		w.engine.Trim(1 + w.rng.IntN(4))
	case 9, 10:
		w.compact(1 + w.rng.IntN(12))
	case 11:
		w.replace(w.rng.IntN(len(w.servers)))
	}
}

// compact is a loss for a server that has still to read what is left out.
func (w *shared) compact(n int) {
	w.tally["compacted"]++
	w.engine.Compact(n)
	oldest, _, err := w.engine.Bounds(w.t.Context())
	require.NoError(w.t, err)
	for _, s := range w.servers {
		if at := s.Stats().Position; at.Epoch() != w.epoch || at.Seq()+1 < oldest.Seq() {
			w.lossy = true
		}
	}
}

// replace puts a new server in the place of another, which is killed.
func (w *shared) replace(i int) {
	w.tally["replaced"]++
	old := w.servers[i]
	for _, c := range w.clients {
		if c.server == old {
			w.leave(c)
		}
	}
	old.Close()
	<-old.ended
	old.ended = nil
	s := newStoppedServer(w.t, w.engine, nil)
	s.Keep, s.Values = old.Keep, old.Values
	s.start()
	w.servers[i] = s
}

package natsjournal_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

var (
	faultRounds = flag.Int("faults.rounds", 1, "how many rounds of random faults")
	faultSeed   = flag.Uint64("faults.seed", 1, "seed of the first round; if zero, a new one")
)

// Whatever happens to the engine and to the nodes, no ID stands for two messages, every node
// yields every message that Append has acknowledged, or a gap in its place, and all of them get
// the last message.
func TestFaults(t *testing.T) {
	t.Parallel()
	first := *faultSeed
	if first == 0 {
		first = rand.Uint64()
	}
	for round := range *faultRounds {
		seed := first + uint64(round)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, engine: startEngine(t), draw: rand.New(rand.NewPCG(seed, 0)), texts: make(map[broadcast.ID]string)}
			w.run()
		})
	}
}

// world is an engine and the nodes that use it.
type world struct {
	t      *testing.T
	engine *engine
	draw   *rand.Rand
	nodes  []*node
	backup string // of the engine's disk; empty if there is none

	mu    sync.Mutex              // guards the fields below
	texts map[broadcast.ID]string // what each ID stands for
	wrong []string
}

// node follows the stream and publishes.
type node struct {
	world   *world
	journal *natsjournal.Journal
	cancel  context.CancelFunc
	ended   chan struct{}

	mu          sync.Mutex   // guards the fields below
	first, last broadcast.ID // that it has taken
	seen        map[broadcast.ID]bool
	gaps        []broadcast.ID // where each leads to
}

func (w *world) start() *node {
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{world: w, journal: w.engine.journal(), cancel: cancel, ended: make(chan struct{}), seen: make(map[broadcast.ID]bool)}
	go func() {
		defer close(n.ended)
		n.follow(ctx)
	}()
	return n
}

// follow follows the journal as a Hub does.
func (n *node) follow(ctx context.Context) {
	for ctx.Err() == nil {
		n.mu.Lock()
		last := n.last
		n.mu.Unlock()
		for m, err := range n.journal.Tail(ctx, last) {
			if err != nil && !errors.Is(err, broadcast.ErrGap) {
				break
			}
			n.take(m, err != nil)
		}
	}
}

func (n *node) take(m broadcast.Message, gap bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := n.last
	n.last = m.ID
	if last.IsZero() {
		n.first = m.ID
	}
	if gap {
		n.gaps = append(n.gaps, m.ID)
		return
	}
	if !last.IsZero() && m.ID != broadcast.MakeID(last.Epoch(), last.Seq()+1) {
		n.world.report("%v follows %v without a gap", m.ID, last)
	}
	n.seen[m.ID] = true
	n.world.stands(m.ID, string(m.Data))
}

func (w *world) report(format string, arguments ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, arguments...))
}

// stands notes that an ID stands for a text.
func (w *world) stands(id broadcast.ID, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if other, ok := w.texts[id]; ok && other != text {
		w.wrong = append(w.wrong, fmt.Sprintf("%v stands for %q and %q", id, other, text))
	}
	w.texts[id] = text
}

// excuses reports whether the node need not have yielded an ID of the last epoch: it began after
// that, or a gap leads over it or to another epoch.
func (n *node) excuses(id broadcast.ID) bool {
	if n.first.Epoch() == id.Epoch() && id.Seq() < n.first.Seq() {
		return true
	}
	for _, gap := range n.gaps {
		if gap.Epoch() != id.Epoch() || gap.Seq() >= id.Seq() {
			return true
		}
	}
	return false
}

func (w *world) run() {
	w.nodes = []*node{w.start(), w.start()}
	defer func() {
		for _, n := range w.nodes {
			n.cancel()
			<-n.ended
		}
	}()
	acknowledged := make(map[broadcast.ID]bool)
	faults := []func(){w.restart, w.purge, w.edit, w.remove, w.save, w.restore, w.crash, w.replace, w.reconnect, w.powerLoss}
	for step := range 12 {
		for i := range 20 {
			text := fmt.Sprint(step, " ", i)
			ctx, cancel := context.WithTimeout(w.t.Context(), soon)
			if ids, err := w.nodes[w.draw.IntN(len(w.nodes))].journal.Append(ctx, message(text)); err == nil {
				w.stands(ids[0], text)
				acknowledged[ids[0]] = true
			}
			cancel()
		}
		faults[w.draw.IntN(len(faults))]()
	}
	w.checkEnd(acknowledged)
}

func (w *world) checkEnd(acknowledged map[broadcast.ID]bool) {
	var end broadcast.ID
	require.Eventually(w.t, func() bool {
		ids, err := w.nodes[0].journal.Append(within(w.t), message("end"))
		if err != nil {
			return false
		}
		end = ids[0]
		for _, n := range w.nodes { // the others may still find that an epoch has begun
			ok := false
			for range 100 {
				n.mu.Lock()
				ok = n.seen[end]
				n.mu.Unlock()
				if ok {
					break
				}
				<-time.After(moment)
			}
			if !ok {
				return false
			}
		}
		return true
	}, 2*soon, moment, "every node gets a last message")
	for i, n := range w.nodes {
		n.mu.Lock()
		for id := range acknowledged {
			if id.Epoch() == end.Epoch() && id.Seq() <= end.Seq() && !n.seen[id] && !n.excuses(id) {
				w.report("node %d has missed %v, without a gap", i, id)
			}
		}
		n.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Empty(w.t, w.wrong)
}

func (w *world) restart() { w.engine.restart() }

func (w *world) reconnect() { _ = w.nodes[0].journal.Conn.ForceReconnect() }

// admin does something with the stream, if it is there.
func (w *world) admin(do func(context.Context, jetstream.JetStream, jetstream.Stream)) {
	js := admin(w.t, w.engine.connect())
	if s, err := js.Stream(within(w.t), "fanfare"); err == nil {
		do(within(w.t), js, s)
	}
}

func (w *world) purge() {
	w.admin(func(ctx context.Context, _ jetstream.JetStream, s jetstream.Stream) { _ = s.Purge(ctx) })
}

func (w *world) remove() {
	w.admin(func(ctx context.Context, js jetstream.JetStream, _ jetstream.Stream) {
		_ = js.DeleteStream(ctx, "fanfare")
	})
}

func (w *world) edit() {
	w.admin(func(ctx context.Context, js jetstream.JetStream, s jetstream.Stream) {
		config := s.CachedInfo().Config
		config.MaxAge = time.Duration(1+w.draw.IntN(100)) * time.Hour
		config.MaxMsgs = int64(1000 + w.draw.IntN(1000))
		_, _ = js.UpdateStream(ctx, config)
	})
}

// save copies the disk of the engine, as of now.
func (w *world) save() {
	w.engine.stop()
	w.backup = w.engine.backup()
	w.engine.start()
}

// restore goes back to the copy while the nodes run.
func (w *world) restore() {
	if w.backup == "" {
		return
	}
	w.engine.stop()
	w.engine.restore(w.backup)
	w.engine.start()
}

// powerLoss ends all nodes without a word, and the engine goes back to what was on its disk.
func (w *world) powerLoss() {
	w.engine.stop()
	for i := range w.nodes {
		w.nodes[i].journal.Conn.Close()
		w.nodes[i].cancel()
		<-w.nodes[i].ended
	}
	if w.backup != "" {
		w.engine.restore(w.backup)
	}
	w.engine.start()
	for i := range w.nodes {
		w.nodes[i] = w.start()
	}
}

// crash ends a node without a word, and starts another.
func (w *world) crash() {
	i := w.draw.IntN(len(w.nodes))
	w.nodes[i].journal.Conn.Close()
	w.nodes[i].cancel()
	<-w.nodes[i].ended
	w.nodes[i] = w.start()
}

// replace ends a node cleanly, and starts another.
func (w *world) replace() {
	i := w.draw.IntN(len(w.nodes))
	w.nodes[i].cancel()
	<-w.nodes[i].ended
	w.nodes[i] = w.start()
}

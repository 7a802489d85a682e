// Package clustertest checks several servers on one journal: while servers and the engine
// fail, every client gets each message exactly once and in order, or a gap where messages
// are missing. [History.Check] is the oracle, with a [Rule] for each promise.
package clustertest

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

var (
	messages = flag.Int("cluster.messages", shortMessages, "how many messages the servers of a cluster publish; a scenario's steps take a thirtieth of them")
	clients  = flag.Int("cluster.clients", 60, "how many clients they have, half of them on each transport; a scenario has a fifth of them")
	seed     = flag.Uint64("cluster.seed", 1, "seed of the random choices; if zero, a new one for each run")
)

// Config says what [Test] and [Run] test. Open is required.
type Config struct {
	// Open returns the journal of a server that starts, and a function that closes it.
	// The engine must keep all messages.
	Open func(t *testing.T) (j broadcast.Journal, stop func())

	// Faults make the engine fail in [Test], one after the other, while messages are
	// published. Besides, each server is killed once and replaced by one that has kept nothing.
	Faults []func(t *testing.T)

	// Loses says that a fault may lose messages that the engine has acknowledged, or makes
	// nodes believe it. Clients may then get gaps, and messages that the engine does not have
	// any more.
	Loses bool
}

// Long reports whether flags ask for more than the short form of the tests.
func Long() bool { return *messages > shortMessages }

const (
	shortMessages = 3000

	servers    = 3
	topics     = 10
	publishers = 8

	// healthy is how long a stream may be silent while messages on its topics are
	// acknowledged and its server says that it follows, and for how long Following may be
	// wrong.
	healthy = 8 * time.Second
)

var silent = slog.New(slog.DiscardHandler)

// Test runs servers, clients and publishers, and makes servers and the engine fail. At the
// end it compares what every client got with the rules.
func Test(t *testing.T, c Config) {
	r := begin(t, c, *clients)
	defer r.cluster.stop()
	r.publishDuringFaults()
	r.finish()
}

// running is a test that runs.
type running struct {
	t       *testing.T
	cluster *cluster
	draw    *rand.Rand
	seed    uint64
	begin   broadcast.ID
	clients []*client
	leave   func() // ends the clients and waits for them
}

// begin starts servers and clients. The caller stops the servers.
func begin(t *testing.T, c Config, clients int) *running {
	chosen := *seed
	for chosen == 0 {
		chosen = rand.Uint64()
	}
	t.Logf("-cluster.seed=%d", chosen)
	r := &running{t: t, cluster: startCluster(t, c), draw: rand.New(rand.NewPCG(chosen, 0)), seed: chosen}
	r.begin = r.cluster.position()
	ctx, cancel := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	for i := range clients {
		client := newClient(r.draw, i, r.cluster, r.begin)
		r.clients = append(r.clients, client)
		listening.Go(func() { client.listen(ctx) })
	}
	r.leave = func() { cancel(); listening.Wait() }
	t.Cleanup(r.leave)
	return r
}

// finish publishes the last messages, waits for the clients and checks the history.
func (r *running) finish() {
	r.cluster.publishLast()
	r.waitForClients()
	r.cluster.stopTicking()
	r.cluster.stopTicking = func() {}
	r.leave()
	h := &r.cluster.history
	h.Kept = r.cluster.kept(r.begin)
	for _, c := range r.clients {
		assert.NoError(r.t, c.failed)
		h.Clients = append(h.Clients, c.Client)
	}
	violations := h.Check()
	count := make(map[Rule]int)
	for _, v := range violations {
		if count[v.Rule]++; count[v.Rule] <= 3 {
			r.t.Error(v)
		}
	}
	if len(violations) > 0 {
		var rules []string
		for rule, n := range count {
			rules = append(rules, fmt.Sprintf("%d of %q", n, rule))
		}
		slices.Sort(rules)
		r.t.Errorf("%d violations: %s", len(violations), strings.Join(rules, ", "))
	}
	r.t.Log(r.figures())
}

// figures says what happened.
func (r *running) figures() string {
	h := &r.cluster.history
	var outcomes [3]int
	for _, p := range h.Published {
		outcomes[p.Outcome]++
	}
	var kinds [4]int
	for _, c := range h.Clients {
		for _, e := range c.Events {
			kinds[e.Kind]++
		}
	}
	return fmt.Sprintf("%d messages were acknowledged, %d refused and %d had no answer; %d clients got %d messages and %d gaps over %d connections; "+
		"the longest silence of a stream whose server followed was %v",
		outcomes[Acknowledged], outcomes[Refused], outcomes[Unknown], len(h.Clients), kinds[Message], kinds[Gap], kinds[Connected],
		time.Duration(h.LongestSilence)*tick)
}

// publishDuringFaults publishes all messages. The faults happen in a random order, spread
// evenly over that time.
func (r *running) publishDuringFaults() {
	cl := r.cluster
	var publishing sync.WaitGroup
	for p := range publishers {
		own := rand.New(rand.NewPCG(r.seed, uint64(p)+1))
		publishing.Go(func() {
			for cl.publish(fmt.Sprint("t", own.IntN(topics))) < int64(*messages) {
			}
		})
	}
	faults := slices.Clone(cl.config.Faults)
	for i := range cl.servers {
		faults = append(faults, func(*testing.T) { cl.end(i, (*server).crash); cl.start(i) })
	}
	r.draw.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	for i, fault := range faults {
		due := int64(*messages * (i + 1) / (len(faults) + 1))
		require.Eventually(r.t, func() bool { return cl.published.Load() >= due }, 2*time.Minute, time.Millisecond, "publishing has stopped")
		fault(r.t)
	}
	publishing.Wait()
}

// waitForClients waits until every client has the last message of its topics, and every server
// follows. That one does not is for the oracle.
func (r *running) waitForClients() {
	last := make(map[string]string)
	for _, p := range r.cluster.history.Published { // nobody publishes any more
		if p.Last && p.Outcome == Acknowledged {
			last[p.Topic] = p.Text
		}
	}
	waitUntil(patience, func() bool {
		return !slices.ContainsFunc(r.clients, func(c *client) bool { return !c.reached(last) })
	})
	waitUntil(healthy, func() bool { return r.following(true) })
}

// following reports whether all servers say that they follow, or all that they do not.
func (r *running) following(want bool) bool {
	return !slices.ContainsFunc(r.cluster.running(), func(s *server) bool { return s.hub.Stats().Following != want })
}

// waitUntil waits until something is so, and reports whether it was in time. It counts how often
// it looks and not the time, most of which a busy machine may give to others.
func waitUntil(limit time.Duration, so func() bool) bool {
	const pause = 10 * time.Millisecond
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for range limit / pause {
		if so() {
			return true
		}
		<-ticker.C
	}
	return so()
}

// Package clustertest checks several servers on one journal: while servers and the engine
// fail, every client gets each message exactly once and in order, or a gap where messages
// are missing.
package clustertest

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

var (
	messages = flag.Int("cluster.messages", 3000, "how many messages the servers of a cluster publish")
	clients  = flag.Int("cluster.clients", 60, "how many clients they have, half of them on each transport")
	seed     = flag.Uint64("cluster.seed", 0, "seed of the random choices; if zero, a new one for each run")
)

// Config says what [Test] tests. Open is required.
type Config struct {
	// Open returns the journal of a server that starts, and a function that closes it.
	// The engine must keep all messages.
	Open func(t *testing.T) (j broadcast.Journal, stop func())

	// Faults make the engine fail, one after the other, while messages are published.
	// Besides, each server is killed once and replaced by one that has kept nothing.
	Faults []func(t *testing.T)

	// Loses says that a fault may lose messages that the engine has acknowledged. Clients
	// may then have messages that the engine does not have any more, and get gaps there.
	Loses bool
}

const (
	servers    = 3
	topics     = 10
	publishers = 8
)

var silent = slog.New(slog.DiscardHandler)

// Test runs servers, clients and publishers, and makes servers and the engine fail. At the
// end it compares what every client got with what the engine has.
func Test(t *testing.T, c Config) {
	chosen := *seed
	for chosen == 0 {
		chosen = rand.Uint64()
	}
	t.Logf("-cluster.seed=%d", chosen)
	draw := rand.New(rand.NewPCG(chosen, 0))
	cl := startCluster(t, c)
	defer cl.stop()
	begin := cl.position()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var listening sync.WaitGroup
	all := make([]*client, *clients)
	for i := range all {
		all[i] = newClient(draw, i, cl.address)
		listening.Go(func() { all[i].listen(ctx, begin) })
	}
	publishDuringFaults(cl, draw, chosen)
	cl.publishLast()
	truth := cl.truth(begin)
	cl.checkOutcomes(truth)
	waitForClients(t, all, truth)
	cancel()
	listening.Wait()

	deliveries, gaps := 0, 0
	for _, client := range all {
		require.NoError(t, client.failed)
		d, g := client.check(t, begin, truth, c.Loses)
		deliveries, gaps = deliveries+d, gaps+g
	}
	t.Logf("%d messages, %d clients, %d deliveries, %d gaps, %d connections; of the publishes %d were refused and %d had no answer",
		len(truth), len(all), deliveries, gaps, cl.connections.Load(), cl.refused.Load(), cl.unknown.Load())
}

// publishDuringFaults publishes all messages. The faults happen in a random order, spread
// evenly over that time.
func publishDuringFaults(cl *cluster, draw *rand.Rand, seed uint64) {
	var published atomic.Int64
	var publishing sync.WaitGroup
	for p := range publishers {
		own := rand.New(rand.NewPCG(seed, uint64(p)+1))
		publishing.Go(func() {
			for n := published.Add(1); n <= int64(*messages); n = published.Add(1) {
				cl.publish(fmt.Sprint("t", own.IntN(topics)), fmt.Sprint(n))
			}
		})
	}
	faults := slices.Clone(cl.config.Faults)
	for i := range cl.servers {
		faults = append(faults, func(*testing.T) { cl.kill(i); cl.start(i) })
	}
	draw.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	for i, fault := range faults {
		due := int64(*messages * (i + 1) / (len(faults) + 1))
		require.Eventually(cl.t, func() bool { return published.Load() >= due }, 2*time.Minute, time.Millisecond, "publishing has stopped")
		fault(cl.t)
	}
	publishing.Wait()
}

// waitForClients waits until every client has the last message of its topics.
func waitForClients(t *testing.T, all []*client, truth []entry) {
	deadline := time.Now().Add(time.Minute)
	for _, client := range all {
		last := client.lastOf(truth)
		require.Eventually(t, func() bool { return client.reached(last) }, max(time.Second, time.Until(deadline)), 10*time.Millisecond,
			"%s never got %v: %v", client.name, last, client.progress())
	}
}

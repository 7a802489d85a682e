package broadcast_test

import (
	"context"
	"testing/synctest"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// How long a tail may yield nothing of what the engine has: until the Hub may end its streams,
// and until it must have.
const (
	modelMayBeDeaf  = 15 * time.Second
	modelMustBeDeaf = 25 * time.Second
)

// How long it takes until Following says what is so.
const modelFollows = 8 * time.Second

// set sets the faults of the server's node.
func (s *clusterServer) set(held, away bool) {
	if held == s.held && away == s.away {
		return
	}
	s.held, s.away, s.faulty = held, away, time.Now()
	s.node.Release()
	if held {
		s.node.Hold()
	}
	s.node.Fail(nil)
	if away {
		s.node.Fail(errAway)
	}
}

// watch checks what a server says of itself.
func (w *cluster) watch(i int) {
	synctest.Wait()
	s, now, stats := w.servers[i], time.Now(), w.servers[i].Stats()
	s.entered[stats.Position.Epoch()] = true
	if at := stats.Position; at == w.newest() {
		s.at, s.stoodSince = at, time.Time{}
	} else if at != s.at || s.stoodSince.IsZero() {
		s.at, s.stoodSince, s.mayStand = at, now, s.watched
	}
	s.watched = now
	stood := time.Duration(0)
	if !s.stoodSince.IsZero() {
		stood = now.Sub(s.stoodSince)
	}
	if s.stoodSince.IsZero() && stats.Behind > 0 || stats.Behind == 0 && stats.Lag > 0 {
		w.fail("server %d is at the newest entry, %d entries and %v behind", i, stats.Behind, stats.Lag)
	}
	w.watchFollowing(i, stats, stood)
	w.watchDeafness(i, stood)
}

func (w *cluster) watchFollowing(i int, stats broadcast.HubStats, stood time.Duration) {
	s := w.servers[i]
	ctx, cancel := context.WithCancel(w.t.Context())
	cancel()
	ready := s.Ready(ctx) == nil
	long := time.Since(s.faulty) > modelFollows
	switch {
	case long && s.away && stats.Following:
		w.fail("server %d follows, and its engine is away", i)
	case long && !s.away && !s.held && !stats.Following:
		w.fail("server %d does not follow, and nothing is wrong", i)
	case s.held && !s.away && min(stood, time.Since(s.faulty)) > modelFollows && (stats.Following || stats.Behind == 0 || stats.Lag == 0):
		w.fail("server %d follows, %d entries and %v behind, and its tail is held", i, stats.Behind, stats.Lag)
	case long && !s.away && !s.held && !ready:
		w.fail("server %d is not ready, and nothing is wrong: %v", i, s.Ready(ctx))
	}
}

func (w *cluster) watchDeafness(i int, stood time.Duration) {
	s := w.servers[i]
	deaf := s.Deaf()
	switch must := s.held && !s.away && min(stood, time.Since(s.faulty)) > modelMustBeDeaf; {
	case must && !deaf:
		w.fail("server %d is not deaf, and its tail has yielded nothing for %v", i, stood)
	case deaf && !s.deaf && time.Since(s.mayStand) < modelMayBeDeaf:
		w.fail("server %d is deaf, and its head has stood for %v", i, stood)
	}
	if s.deaf = deaf; !deaf {
		return
	}
	w.tally["deaf"]++
	for _, c := range w.clients {
		if c.stream != nil && c.stream.server == s && !c.stream.closing {
			c.stream.closing, c.stream.ended = true, s.Stats().Position
		}
	}
}

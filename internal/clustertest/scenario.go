package clustertest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Scenario is a running cluster, on which messages are published without end, and whose
// engine a test makes fail step by step. Its methods wait for a state. One that waits in vain
// fails the test and returns, so that the oracle still says what became of the clients.
type Scenario struct {
	*running
	quiet atomic.Bool // nothing is published
}

const (
	// patience is how long a step may take.
	patience = 45 * time.Second

	// publishPause is the pause of a publisher in a scenario.
	publishPause = 5 * time.Millisecond
)

// Run runs servers, clients and publishers, does what a scenario does, and then compares what
// every client got with the rules.
func Run(t *testing.T, c Config, do func(*Scenario)) {
	s := &Scenario{running: begin(t, c, max(6, *clients/5))}
	defer s.cluster.stop()
	var publishing sync.WaitGroup
	ended := make(chan struct{})
	for p := range publishers {
		own := rand.New(rand.NewPCG(s.seed, uint64(p)+1))
		publishing.Go(func() { s.publish(own, ended) })
	}
	func() {
		defer publishing.Wait()
		defer close(ended)
		s.Arrives("at first")
		s.Published()
		do(s)
		s.Published()
	}()
	s.finish()
}

func (s *Scenario) publish(draw *rand.Rand, ended <-chan struct{}) {
	ticker := time.NewTicker(publishPause)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
		}
		if !s.quiet.Load() {
			s.cluster.publish(fmt.Sprint("t", draw.IntN(topics)))
		}
	}
}

// wait waits until something is so, and logs how long that took, or fails the test.
func (s *Scenario) wait(so func() bool, format string, args ...any) {
	s.t.Helper()
	what, began := fmt.Sprintf(format, args...), time.Now()
	if waitUntil(patience, so) {
		s.t.Logf("%s: after %v", what, time.Since(began).Round(tick))
	} else {
		s.t.Errorf("%s: not within %v", what, patience)
	}
}

// Published waits until some more messages are acknowledged.
func (s *Scenario) Published() {
	s.t.Helper()
	want := s.cluster.acknowledged() + *messages/30
	if !waitUntil(patience, func() bool { return s.cluster.acknowledged() >= want }) {
		s.t.Errorf("publishing has stopped for %v", patience)
	}
}

// Arrives waits until every client has got, on each of its topics, a message that was
// published after the call.
func (s *Scenario) Arrives(when string) {
	s.t.Helper()
	n := s.cluster.published.Load()
	s.wait(func() bool {
		for _, c := range s.clients {
			if !c.hasNewer(n) {
				return false
			}
		}
		return true
	}, "every client gets messages %s", when)
}

// Quiet stops publishing, for as long as do runs.
func (s *Scenario) Quiet(do func()) {
	s.quiet.Store(true)
	defer s.quiet.Store(false)
	do()
}

// Publish publishes a message of each topic, and reports whether all were acknowledged.
func (s *Scenario) Publish() (ok bool) {
	ok = true
	for i := range topics {
		n := s.cluster.published.Add(1)
		p := Publishing{Entry: Entry{Topic: fmt.Sprint("t", i), Text: fmt.Sprint(n)}}
		ok = s.cluster.tryPublish(p) == nil && ok
	}
	return ok
}

// Following waits until all servers say that they follow, or that they do not.
func (s *Scenario) Following(want bool) {
	s.t.Helper()
	s.wait(func() bool {
		for _, server := range s.cluster.running() {
			if server.hub.Stats().Following != want {
				return false
			}
		}
		return true
	}, "Following is %v", want)
}

// EngineAway notes that the engine answers no server from now on.
func (s *Scenario) EngineAway() {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	h := &s.cluster.history
	h.Away = append(h.Away, Span{From: s.cluster.now(), To: math.MaxInt})
}

// EngineBack notes that the engine answers again.
func (s *Scenario) EngineBack() {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	away := s.cluster.history.Away
	away[len(away)-1].To = s.cluster.now()
}

// Crash ends servers without a chance to tell the engine.
func (s *Scenario) Crash(which ...int) {
	for _, i := range which {
		s.cluster.end(i, (*server).crash)
	}
}

// Stop ends servers as programs do that are told to end.
func (s *Scenario) Stop(which ...int) {
	for _, i := range which {
		s.cluster.end(i, (*server).stop)
	}
}

// Start starts servers that have ended.
func (s *Scenario) Start(which ...int) {
	for _, i := range which {
		s.cluster.start(i)
	}
}

// MoveTo breaks the connections of all clients, which then connect to the i-th server only.
func (s *Scenario) MoveTo(i int) {
	s.cluster.mu.Lock()
	s.cluster.only = s.cluster.servers[i]
	s.cluster.mu.Unlock()
	for _, other := range s.cluster.running() {
		if other != s.cluster.only {
			other.cut()
		}
	}
}

// MoveAnywhere lets clients that connect choose any server again.
func (s *Scenario) MoveAnywhere() {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	s.cluster.only = nil
}

// Position waits until the i-th server has a position that satisfies a condition.
func (s *Scenario) Position(i int, what string, so func(broadcast.ID) bool) {
	s.t.Helper()
	s.wait(func() bool {
		s.cluster.mu.Lock()
		server := s.cluster.servers[i]
		s.cluster.mu.Unlock()
		return so(server.hub.Stats().Position)
	}, "server %d %s", i, what)
}

// Newest returns the newest ID that was acknowledged.
func (s *Scenario) Newest() (newest broadcast.ID) {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	for _, p := range s.cluster.history.Published {
		if p.Outcome == Acknowledged && (p.ID.Epoch() != newest.Epoch() || p.ID.Seq() > newest.Seq()) {
			newest = p.ID
		}
	}
	return newest
}

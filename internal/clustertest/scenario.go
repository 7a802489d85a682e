package clustertest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
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
	patience = 30 * time.Second

	// settleTime is how long nodes may take to look at an engine that works: the tail of
	// natsjournal does so every five seconds.
	settleTime = 6 * time.Second

	// publishPause is the pause of a publisher in a scenario.
	publishPause = 20 * time.Millisecond
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
		s.cluster.publishing.Add(1)
		if !s.quiet.Load() {
			s.cluster.publish(fmt.Sprint("t", draw.IntN(topics)))
		}
		s.cluster.publishing.Add(-1)
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
	acknowledged := s.cluster.acknowledged()
	want := acknowledged + *messages/30
	for acknowledged < want {
		if !waitUntil(patience, func() bool { return s.cluster.acknowledged() > acknowledged }) {
			s.t.Errorf("publishing has stopped for %v", patience)
			return
		}
		acknowledged = s.cluster.acknowledged()
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

// Settled waits until all servers have had the time in which they look at the engine again
// while nothing fails.
func (s *Scenario) Settled() {
	began := s.cluster.now()
	waitUntil(patience, func() bool { return s.cluster.now() > began+int(settleTime/tick) })
}

// Quiet stops publishing, for as long as do runs, which begins when each Publish has returned.
func (s *Scenario) Quiet(do func()) {
	s.quiet.Store(true)
	waitUntil(patience, func() bool { return s.cluster.publishing.Load() == 0 })
	defer s.quiet.Store(false)
	do()
}

// Mute lets nothing be published on the i-th server, until Unmute.
func (s *Scenario) Mute(i int) { s.setMute(s.server(i)) }

// Unmute lets messages be published on any server again.
func (s *Scenario) Unmute() { s.setMute(nil) }

func (s *Scenario) setMute(server *server) {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	s.cluster.mute = server
}

func (s *Scenario) server(i int) *server {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.cluster.servers[i]
}

// Publish publishes a message on each server, and returns the IDs and errors.
func (s *Scenario) Publish() (ids []broadcast.ID, errs []error) {
	for _, server := range s.cluster.running() {
		n := s.cluster.published.Add(1)
		p := Publishing{Entry: Entry{Topic: fmt.Sprint("t", n%topics), Text: fmt.Sprint(n)}}
		id, err := s.cluster.tryPublish(server, p)
		ids, errs = append(ids, id), append(errs, err)
	}
	return ids, errs
}

// Leaves waits until what is published on any server is in another epoch than an ID.
func (s *Scenario) Leaves(left broadcast.ID) {
	s.t.Helper()
	s.wait(func() bool {
		ids, errs := s.Publish()
		for i, id := range ids {
			if errs[i] != nil || id.Epoch() == left.Epoch() {
				return false
			}
		}
		return true
	}, "every server publishes in another epoch")
}

// Refuses waits until no server publishes.
func (s *Scenario) Refuses() {
	s.t.Helper()
	s.wait(func() bool {
		_, errs := s.Publish()
		return !slices.Contains(errs, nil)
	}, "every server refuses to publish")
}

// Following waits until all servers say that they follow, or that they do not.
func (s *Scenario) Following(want bool) {
	s.t.Helper()
	s.wait(func() bool { return s.following(want) }, "Following is %v", want)
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
	only := s.server(i)
	s.cluster.mu.Lock()
	s.cluster.only = only
	s.cluster.mu.Unlock()
	for _, other := range s.cluster.running() {
		if other != only {
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

// Subscribed waits until all clients have a stream of the i-th server.
func (s *Scenario) Subscribed(i int) {
	s.t.Helper()
	server := s.server(i)
	s.wait(func() bool { return server.hub.Stats().Subscriptions >= len(s.clients) }, "every client has a stream of server %d", i)
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

// Fault is something that happens to an engine or to servers, and is over when Do returns.
type Fault struct {
	Name string
	Do   func(*Scenario)
}

// Faults lets faults happen one after the other, in a random order: a few of them, or each three
// times in the long form of the tests. After each one every client gets messages again.
func (s *Scenario) Faults(all ...Fault) {
	s.t.Helper()
	var order []Fault
	for range 3 {
		for _, i := range s.draw.Perm(len(all)) {
			order = append(order, all[i])
		}
	}
	if !Long() {
		order = order[:2]
	}
	for _, f := range order {
		s.t.Log("fault: " + f.Name)
		f.Do(s)
		s.Arrives("after: " + f.Name)
	}
}

// ServerFaults returns what may happen to servers.
func ServerFaults() []Fault {
	return []Fault{
		{"a server crashes", func(s *Scenario) { s.Crash(1); s.Start(1) }},
		{"a server is stopped", func(s *Scenario) { s.Stop(2); s.Start(2) }},
		{"all servers crash", func(s *Scenario) { s.Crash(0, 1, 2); s.Start(0, 1, 2) }},
		{"all servers are stopped", func(s *Scenario) { s.Stop(0, 1, 2); s.Start(0, 1, 2) }},
		{"all clients move", func(s *Scenario) { s.MoveTo(0); s.MoveAnywhere() }},
	}
}

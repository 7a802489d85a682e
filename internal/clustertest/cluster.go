package clustertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// tick is how often the servers are asked for their Stats, which is the clock of a History.
const tick = 50 * time.Millisecond

// cluster is the servers on one engine.
type cluster struct {
	t      *testing.T
	config Config

	ticks       atomic.Int64
	stopTicking func()

	// Counted while it runs.
	started     atomic.Int64 // servers
	connections atomic.Int64
	published   atomic.Int64 // calls of Publish that have begun
	publishing  atomic.Int64 // publishers of a scenario that may be calling it

	mu      sync.Mutex       // guards the fields below
	servers [servers]*server // nil: it does not run
	only    *server          // clients connect to this one; nil: to any
	mute    *server          // nothing is published on this one
	history History
}

func startCluster(t *testing.T, c Config) *cluster {
	cl := &cluster{t: t, config: c}
	cl.history = History{Loses: c.Loses, Patience: int(healthy / tick)}
	for i := range cl.servers {
		cl.start(i)
	}
	var ticking sync.WaitGroup
	ended := make(chan struct{})
	ticking.Go(func() { cl.tick(ended) })
	cl.stopTicking = func() {
		close(ended)
		ticking.Wait()
		cl.sample() // as it is now, and not as it was up to a tick ago
	}
	return cl
}

// stop ends all servers.
func (cl *cluster) stop() {
	cl.stopTicking()
	for i := range cl.servers {
		cl.end(i, (*server).stop)
	}
}

// tick takes samples until ended is closed.
func (cl *cluster) tick(ended <-chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
		}
		cl.sample()
	}
}

// sample moves the clock on, and asks each server for its Stats.
func (cl *cluster) sample() {
	now := int(cl.ticks.Add(1))
	for _, s := range cl.running() {
		stats := s.hub.Stats()
		cl.mu.Lock()
		cl.history.Samples = append(cl.history.Samples, Sample{s.number, now, stats.Following, stats.Position})
		cl.mu.Unlock()
	}
}

func (cl *cluster) now() int { return int(cl.ticks.Load()) }

// start starts the i-th server.
func (cl *cluster) start(i int) {
	// One server keeps hardly anything, so that it has to read from the engine what clients
	// have missed.
	s := startServer(cl, []int{1024, 1024, 64}[i])
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.servers[i] = s
}

// end ends the i-th server with one of its methods.
func (cl *cluster) end(i int, how func(*server)) {
	cl.mu.Lock()
	s := cl.servers[i]
	cl.servers[i] = nil
	cl.mu.Unlock()
	if s != nil {
		how(s)
	}
}

func (cl *cluster) running() (all []*server) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for _, s := range cl.servers {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// anyServer returns a random server that clients may connect to, or nil if there is none.
func (cl *cluster) anyServer() *server {
	cl.mu.Lock()
	only := cl.only
	cl.mu.Unlock()
	if only != nil {
		return only
	}
	return anyOf(cl.running())
}

// anyPublisher returns a random server to publish on, or nil if there is none.
func (cl *cluster) anyPublisher() *server {
	running := cl.running()
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return anyOf(slices.DeleteFunc(running, func(s *server) bool { return s == cl.mute }))
}

func anyOf(all []*server) *server {
	if len(all) == 0 {
		return nil
	}
	return all[rand.IntN(len(all))]
}

// position waits until all servers follow the same epoch, and returns a position in it. Servers
// that start at once may each begin one.
func (cl *cluster) position() (position broadcast.ID) {
	agree := func() bool {
		for i, s := range cl.running() {
			p, err := s.hub.Position(cl.t.Context())
			if err != nil || p.Epoch() <= 1 || !s.hub.Stats().Following || i > 0 && p.Epoch() != position.Epoch() {
				return false
			}
			position = p
		}
		return true
	}
	require.True(cl.t, waitUntil(time.Minute, agree), "the servers do not agree on an epoch")
	return position
}

// publish publishes the next message on a topic, on any server.
func (cl *cluster) publish(topic string) (n int64) {
	n = cl.published.Add(1)
	_, _ = cl.tryPublish(cl.anyPublisher(), Publishing{Entry: Entry{Topic: topic, Text: fmt.Sprint(n)}})
	return n
}

// publishLast publishes the last message of each topic, and repeats that until it succeeds.
func (cl *cluster) publishLast() {
	attempt := 0
	var left []string
	for i := range topics {
		left = append(left, fmt.Sprint("t", i))
	}
	ok := waitUntil(patience, func() bool {
		attempt++
		for len(left) > 0 {
			text := fmt.Sprintf("last of %s, %d", left[0], attempt)
			if _, err := cl.tryPublish(cl.anyPublisher(), Publishing{Entry: Entry{Topic: left[0], Text: text}, Last: true}); err != nil {
				return false
			}
			left = left[1:]
		}
		return true
	})
	assert.True(cl.t, ok, "the last messages of %v are not published", left)
}

// tryPublish publishes on a server, and records the outcome.
func (cl *cluster) tryPublish(s *server, p Publishing) (broadcast.ID, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if s == nil {
		return broadcast.ID{}, broadcast.ErrNotPublished
	}
	var err error
	p.ID, err = s.hub.Publish(ctx, broadcast.Message{Topic: p.Topic, Type: p.Topic, Data: []byte(p.Text)})
	switch {
	case err == nil:
	case errors.Is(err, broadcast.ErrNotPublished):
		p.Outcome = Refused
	default:
		p.Outcome = Unknown
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	p.At = cl.now()
	cl.history.Published = append(cl.history.Published, p)
	return p.ID, err
}

// acknowledged returns how many messages were acknowledged.
func (cl *cluster) acknowledged() (n int) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for _, p := range cl.history.Published {
		if p.Outcome == Acknowledged {
			n++
		}
	}
	return n
}

// kept returns all messages that the engine has after a position.
func (cl *cluster) kept(begin broadcast.ID) (all []Entry) {
	journal, stop := cl.config.Open(cl.t)
	defer stop()
	ctx, cancel := context.WithTimeout(cl.t.Context(), time.Minute)
	defer cancel()
	_, newest, err := journal.Bounds(ctx)
	if !assert.NoError(cl.t, err, "reading what the engine has") {
		return nil
	}
	if begin.Epoch() != newest.Epoch() {
		begin = broadcast.ID{}
	}
	for m, err := range journal.Tail(ctx, begin) {
		if err != nil {
			if !assert.ErrorIs(cl.t, err, broadcast.ErrGap, "reading what the engine has") {
				return all
			}
		} else if m.Topic != "" {
			all = append(all, Entry{m.ID, m.Topic, string(m.Data)})
		}
		if m.ID.Epoch() == newest.Epoch() && m.ID.Seq() >= newest.Seq() {
			break
		}
	}
	return all
}

package endtoend_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/memnet"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

var (
	faultSeeds = flag.Int("faults.seeds", 50, "how many seeds TestFaults draws its faults from")
	faultSeed  = flag.Uint64("faults.seed", 0, "the only seed that TestFaults and TestNetworkNamespaces draw from; if 0, each run has others")
)

func newSeed() uint64 { return rand.Uint64() >> 32 }

// Clients whose network breaks in every way that package faults knows get each message
// once and in order, or a gap. A seed repeats the same faults, but not the schedule of the
// goroutines.
func TestFaults(t *testing.T) {
	var all tally
	t.Run("storms", func(t *testing.T) {
		if *faultSeed != 0 {
			runStorm(t, *faultSeed, &all)
			return
		}
		for range *faultSeeds {
			runStorm(t, newSeed(), &all)
		}
	})
	t.Log(&all)
	if *faultSeed == 0 && *faultSeeds >= 20 { // fewer may lack a kind of fault
		assert.Positive(t, all.gaps)
		assert.Len(t, all.faults, len(wayFaults))
	}
}

// runStorm runs one storm in a bubble of its own, in parallel with others.
func runStorm(t *testing.T, seed uint64, all *tally) {
	t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newStorm(seed)
			s.rage(t)
			t.Logf("-faults.seed=%d, Keep %d: %v", seed, s.history.hub.Keep, &s.tally)
			all.add(&s.tally)
		})
	})
}

const (
	beat     = time.Second // between heartbeats and pings
	patience = time.Second // WriteTimeout

	// found is how long a stream may outlive its client. A beat passes until something
	// is sent, which nobody acknowledges for a beat and patience. If nothing reads from
	// the connection, the next beat gets the error.
	found = 3*beat + patience
)

// storm is one run: a server, and clients with a network of their own each.
type storm struct {
	rng      *rand.Rand
	history  *history
	overruns bool // the Hub keeps too little for a client that is away
	listener *memnet.Listener
	server   *http.Server
	roll     roll
	clients  []*subscriber
	ways     []*way
	until    time.Time
	tally    tally
}

func newStorm(seed uint64) *storm {
	rng := rand.New(rand.NewPCG(seed, 0))
	s := &storm{rng: rng, overruns: rng.IntN(2) == 0, listener: memnet.Listen(), until: time.Now().Add(time.Minute)}
	hub := &broadcast.Hub{Keep: 1 << 20, TopicTTL: time.Hour} // longer than any client is away
	if s.overruns {
		hub.Keep = 1 + rng.IntN(16)
	}
	s.history = &history{hub: hub}
	maxAge := []time.Duration{0, 20 * time.Second}[rng.IntN(2)]
	s.server = &http.Server{
		Handler: routes(hub, s.roll.grant,
			sse.Options{Heartbeat: beat, WriteTimeout: patience, Retry: time.Millisecond, MaxAge: maxAge},
			ws.Options{PingInterval: beat, WriteTimeout: patience, Compression: true, MaxAge: maxAge}),
		ConnContext:       sse.ConnContext,
		ReadHeaderTimeout: 20 * time.Second,
		IdleTimeout:       20 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	for i := range 2 * len(follows) {
		s.addClient(fmt.Sprint(i))
	}
	return s
}

// draw returns a random source for one part of the storm.
func (s *storm) draw() *rand.Rand { return rand.New(rand.NewPCG(s.rng.Uint64(), 0)) }

func (s *storm) addClient(name string) {
	rng, w := s.draw(), newWay(s.listener, s.draw())
	w.streams, w.within = func() []context.Context { return s.roll.of(name) }, found
	position, _ := s.history.hub.Position(context.Background())
	s.ways = append(s.ways, w)
	s.clients = append(s.clients, &subscriber{
		record:  newRecord(name, someOf(letters, rng), position.String()),
		history: s.history,
		http:    &http.Client{Transport: &http.Transport{DialContext: w.dial}},
		url:     "http://memory",
		rng:     rng,
		silence: []time.Duration{3 * beat, 30 * beat}[rng.IntN(2)],
	})
}

// rage runs the storm, and then checks what each client received.
func (s *storm) rage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	go func() { _ = s.server.Serve(s.listener) }()
	defer s.server.Close()
	defer s.history.hub.Close()
	var clients, weather sync.WaitGroup
	for i, c := range s.clients {
		clients.Go(func() { assert.NoError(t, follows[i%len(follows)](c, ctx), "client %s", c.name) })
		rng := s.draw()
		weather.Go(func() { s.strike(t, s.ways[i], c.name, rng) })
	}
	for range 2 {
		rng := s.draw()
		weather.Go(func() { s.publish(t, rng) })
	}
	weather.Wait()
	for _, w := range s.ways {
		w.change(w.fast)
	}
	for _, topic := range letters {
		assert.NoError(t, s.history.publish(ctx, topic, "end", 0))
	}
	clients.Wait()
	s.check(t)
}

// check compares what the clients received with what was published.
func (s *storm) check(t *testing.T) {
	for _, c := range s.clients {
		assert.NoError(t, c.check(s.history), "client %s", c.name)
		s.tally.client(&c.record)
		c.http.CloseIdleConnections()
	}
	if !s.overruns {
		assert.Zero(t, s.tally.gaps, "gaps although everything was kept")
	}
	time.Sleep(time.Minute) // for late connections
	assert.Zero(t, s.history.hub.Stats().Subscriptions, "subscriptions after all clients have ended")
	s.tally.streams = s.roll.begun
}

// strike applies one fault after the other to a client's network.
func (s *storm) strike(t *testing.T, w *way, client string, rng *rand.Rand) {
	for {
		time.Sleep(time.Duration(rng.Int64N(int64(8 * time.Second))))
		if !time.Now().Before(s.until) {
			return
		}
		fault := wayFaults[rng.IntN(len(wayFaults))]
		s.tally.fault(fault.name)
		assert.NoError(t, fault.strike(w), "client %s, %s", client, fault.name)
	}
}

// publish publishes at random times, sometimes a burst, and rarely a large message.
func (s *storm) publish(t *testing.T, rng *rand.Rand) {
	for time.Now().Before(s.until) {
		time.Sleep(time.Duration(rng.Int64N(int64(600 * time.Millisecond))))
		burst := 1
		if rng.IntN(10) == 0 {
			burst += rng.IntN(30)
		}
		for range burst {
			lines := rng.IntN(5)
			switch rng.IntN(500) {
			case 0:
				lines = rng.IntN(25_000)
			case 1, 2, 3, 4, 5, 6, 7:
				lines = rng.IntN(500) // long enough to be deflated
			}
			assert.NoError(t, s.history.publish(t.Context(), letters[rng.IntN(len(letters))], "tick", lines))
		}
	}
}

package endtoend_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

const (
	pulse = 250 * time.Millisecond // between heartbeats and pings
	calm  = 500 * time.Millisecond // WriteTimeout
)

// cell is a server and the phones that use it. The server has two Hubs: one keeps
// everything, the other hardly anything.
type cell struct {
	rng          *rand.Rand
	large, small *history
	server       *httptest.Server
	roll         roll
	phones       []*phone
	clients      []*subscriber
	faults       []fault[*phone]
	tally        tally
}

func newCell(t *testing.T, seed uint64) *cell {
	c := &cell{
		rng:    rand.New(rand.NewPCG(seed, 0)),
		large:  &history{hub: &broadcast.Hub{Keep: 1 << 20}},
		small:  &history{hub: &broadcast.Hub{Keep: 4}},
		faults: phoneFaults,
	}
	c.serve(t)
	for n := range 4 {
		c.addPhone(t, n)
	}
	if err := c.phones[0].mayTrickle(); err != nil {
		t.Logf("links cannot be slowed down here: %v", err)
		c.faults = slices.DeleteFunc(slices.Clone(phoneFaults), func(f fault[*phone]) bool { return f.name == "trickle" })
	}
	return c
}

func (c *cell) serve(t *testing.T) {
	mux := http.NewServeMux()
	for path, history := range map[string]*history{"/large": c.large, "/small": c.small} {
		mux.Handle(path+"/", http.StripPrefix(path, routes(history.hub, c.roll.grant,
			sse.Options{Heartbeat: pulse, WriteTimeout: calm, Retry: time.Millisecond},
			ws.Options{PingInterval: pulse, WriteTimeout: calm, Compression: true})))
	}
	listener, err := net.Listen("tcp4", ":0")
	require.NoError(t, err)
	config := &http.Server{Handler: mux, ConnContext: sse.ConnContext, ReadHeaderTimeout: 5 * time.Second}
	c.server = &httptest.Server{Listener: listener, Config: config}
	c.server.Start()
	t.Cleanup(c.server.Close)
}

// addPhone adds a phone, with a client of each kind.
func (c *cell) addPhone(t *testing.T, n int) {
	p, err := newPhone(n, c.draw())
	if errors.Is(err, errNoLink) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(p.end)
	p.within = 3*pulse + calm + 5*time.Second // as in TestFaults, and 5 s for a busy machine
	c.phones = append(c.phones, p)
	for i := range follows {
		name := fmt.Sprintf("%d.%d", n, i)
		c.addClient(p, name)
		p.streams = append(p.streams, func() []context.Context { return c.roll.of(name) })
	}
}

// draw returns a random source for one part of the cell.
func (c *cell) draw() *rand.Rand { return rand.New(rand.NewPCG(c.rng.Uint64(), 0)) }

func (c *cell) addClient(p *phone, name string) {
	rng, history, path := c.draw(), c.large, "/large"
	if rng.IntN(2) == 0 {
		history, path = c.small, "/small"
	}
	position, _ := history.hub.Position(context.Background())
	_, port, _ := net.SplitHostPort(c.server.Listener.Addr().String())
	c.clients = append(c.clients, &subscriber{
		record:  newRecord(name, someOf(letters, rng), position.String()),
		history: history,
		http:    &http.Client{Transport: &http.Transport{DialContext: p.dial, ResponseHeaderTimeout: 2 * time.Second}},
		url:     "http://" + net.JoinHostPort(p.address(1), port) + path,
		rng:     rng,
		silence: 6 * pulse,
	})
}

// live runs all faults of all phones, and then checks what each client received.
func (c *cell) live(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	var clients, phones, publishing sync.WaitGroup
	for i, client := range c.clients {
		clients.Go(func() { assert.NoError(t, follows[i%len(follows)](client, ctx), "client %s", client.name) })
	}
	stop := make(chan struct{})
	publishing.Go(func() { c.publish(t, stop) })
	for _, p := range c.phones {
		phones.Go(func() { c.strike(t, p) })
	}
	phones.Wait()
	close(stop)
	publishing.Wait()
	for _, topic := range letters {
		c.put(t, topic, "end", 0)
	}
	clients.Wait()
	c.check(t)
}

// strike applies each fault to a phone, and waits after each until its clients are back.
func (c *cell) strike(t *testing.T, p *phone) {
	for _, i := range p.rng.Perm(len(c.faults)) {
		p.pause(200 * time.Millisecond)
		fault := c.faults[i]
		c.tally.fault(fault.name)
		assert.NoError(t, fault.strike(p), "phone %d, %s", p.n, fault.name)
		assert.Eventually(t, p.online, 10*time.Second, 10*time.Millisecond, "phone %d, after %s", p.n, fault.name)
	}
}

// publish publishes until stop is closed, sometimes a burst. It publishes little in all, so
// that no socket's buffer is full before the server has noticed that a phone is gone.
func (c *cell) publish(t *testing.T, stop <-chan struct{}) {
	rng := c.draw()
	ticks := time.NewTicker(50 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticks.C:
		}
		burst := 1
		if rng.IntN(50) == 0 {
			burst = 20
		}
		for range burst {
			c.put(t, letters[rng.IntN(len(letters))], "tick", rng.IntN(5))
		}
	}
}

// put publishes to both Hubs.
func (c *cell) put(t *testing.T, topic, typ string, lines int) {
	for _, history := range []*history{c.large, c.small} {
		assert.NoError(t, history.publish(t.Context(), topic, typ, lines))
	}
}

// check compares what the clients received with what was published.
func (c *cell) check(t *testing.T) {
	for _, client := range c.clients {
		assert.NoError(t, client.check(client.history), "client %s", client.name)
		if client.history == c.large {
			assert.Zero(t, client.gaps, "gaps although everything was kept")
		}
		c.tally.client(&client.record)
		client.http.CloseIdleConnections()
	}
	c.tally.streams = c.roll.begun
	missed := time.Duration(0)
	for _, p := range c.phones {
		missed = max(missed, p.missed)
	}
	t.Logf("%v; the server noticed within %v that a phone was out of reach", &c.tally, missed.Round(time.Millisecond))
	for _, history := range []*history{c.large, c.small} {
		assert.Eventually(t, func() bool { return history.hub.Stats().Subscriptions == 0 }, 10*time.Second, 10*time.Millisecond, "subscriptions after all clients have ended")
		assert.NoError(t, history.hub.Close())
	}
}

// Package clustertest checks that clients of several servers on one journal see each
// message exactly once and in order, or are told of a gap that is true, whatever fails.
package clustertest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

var (
	messages = flag.Int("cluster.messages", 3000, "how many messages the servers of a cluster publish")
	clients  = flag.Int("cluster.clients", 60, "how many clients they have, half of them on each transport")
	seed     = flag.Uint64("cluster.seed", 0, "what decides who does what; if zero, another one each time")
)

// Config is what [Test] tests.
type Config struct {
	// Open returns a connection to the engine of a server that begins, and what closes
	// it. The engine keeps all messages.
	Open func(t *testing.T) (j broadcast.Journal, stop func())

	// Faults are what happens to the engine, one after the other, while messages flow.
	// Beside it each server is killed once, and begins anew with nothing.
	Faults []func(t *testing.T)

	// Loses says that a fault may lose what the engine has acknowledged. Then clients
	// may have got what is not there any more, and are told of gaps in it.
	Loses bool
}

const (
	servers    = 3
	topics     = 10
	publishers = 8
)

var silent = slog.New(slog.DiscardHandler)

// Test runs servers, clients and publishers, and lets things happen to them.
func Test(t *testing.T, c Config) {
	chosen := *seed
	for chosen == 0 {
		chosen = rand.Uint64()
	}
	t.Logf("-cluster.seed=%d", chosen)
	draw := rand.New(rand.NewPCG(chosen, 0))
	cl := &cluster{t: t, config: c, outcomes: make(map[string]outcome)}
	for i := range cl.servers {
		cl.start(i)
	}
	defer func() {
		for i := range cl.servers {
			cl.kill(i)
		}
	}()
	begin := cl.position()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var listening sync.WaitGroup
	all := make([]*client, *clients)
	for i := range all {
		all[i] = newClient(draw, i)
		all[i].address = cl.address
		listening.Go(func() { all[i].listen(ctx, begin) })
	}
	var published atomic.Int64
	var publishing sync.WaitGroup
	for p := range publishers {
		own := rand.New(rand.NewPCG(chosen, uint64(p)+1))
		publishing.Go(func() {
			for n := published.Add(1); n <= int64(*messages); n = published.Add(1) {
				cl.publish(own, n)
			}
		})
	}
	// The faults are spread over the time in which messages flow.
	happen := slices.Clone(c.Faults)
	for i := range cl.servers {
		happen = append(happen, func(*testing.T) { cl.kill(i); cl.start(i) })
	}
	draw.Shuffle(len(happen), func(i, j int) { happen[i], happen[j] = happen[j], happen[i] })
	for i, f := range happen {
		due := int64(*messages * (i + 1) / (len(happen) + 1))
		require.Eventually(t, func() bool { return published.Load() >= due }, 2*time.Minute, time.Millisecond, "publishing stands still")
		f(t)
	}
	publishing.Wait()
	// The last of each topic is what the clients have to get to.
	for topic := range topics {
		require.Eventually(t, func() bool { return cl.try(fmt.Sprint("t", topic), last) == nil }, time.Minute, 10*time.Millisecond)
	}
	truth := cl.truth(begin)
	cl.keepsItsWord(truth)
	deadline := time.Now().Add(time.Minute)
	for _, client := range all {
		due := client.due(truth)
		require.Eventually(t, func() bool { return client.reached(due) }, max(time.Second, time.Until(deadline)), 10*time.Millisecond,
			"%s never got to %v: %v", client.name, due, client.state())
	}
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

// cluster is servers on one engine.
type cluster struct {
	t           *testing.T
	config      Config
	connections atomic.Int64
	refused     atomic.Int64
	unknown     atomic.Int64

	mu       sync.Mutex // guards what follows
	servers  [servers]*server
	outcomes map[string]outcome // of publishing, by text
}

// outcome is what a publisher was told.
type outcome struct {
	id  broadcast.ID
	err error
}

type server struct {
	hub     *broadcast.Hub
	address string
	http    *http.Server
	stop    func()
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
}

func (cl *cluster) start(i int) {
	journal, closeJournal := cl.config.Open(cl.t)
	// One server keeps hardly anything: it has to read what clients have missed.
	s := &server{hub: &broadcast.Hub{Keep: []int{1024, 1024, 64}[i], Journal: journal, Logger: silent}, conns: make(map[net.Conn]struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.hub.Run(ctx)
	}()
	grant := func(r *http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: r.URL.Query()["topic"]}, nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /events", &sse.Handler{Broadcaster: s.hub, Grant: grant, Logger: silent, Options: sse.Options{Heartbeat: time.Second, Retry: 10 * time.Millisecond}})
	mux.Handle("GET /ws", &ws.Handler{Broadcaster: s.hub, Grant: grant, Logger: silent, Options: ws.Options{PingInterval: time.Second}})
	s.http = &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ConnState: func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if state == http.StateNew {
			cl.connections.Add(1)
			s.conns[c] = struct{}{}
		}
	}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(cl.t, err)
	s.address = listener.Addr().String()
	go s.http.Serve(listener)
	s.stop = func() {
		_ = s.http.Close()
		s.mu.Lock()
		for c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		_ = s.hub.Close()
		cancel()
		<-ended
		closeJournal()
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.servers[i] = s
}

// kill ends a server as a crash does, as far as clients can tell.
func (cl *cluster) kill(i int) {
	cl.mu.Lock()
	s := cl.servers[i]
	cl.servers[i] = nil
	cl.mu.Unlock()
	if s != nil {
		s.stop()
	}
}

// some returns a server that is there.
func (cl *cluster) some(draw func(int) int) *server {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	var there []*server
	for _, s := range cl.servers {
		if s != nil {
			there = append(there, s)
		}
	}
	if len(there) == 0 {
		return nil
	}
	return there[draw(len(there))]
}

func (cl *cluster) address() string {
	if s := cl.some(rand.IntN); s != nil {
		return s.address
	}
	return "127.0.0.1:1"
}

// position waits until a server knows where the log stands.
func (cl *cluster) position() (position broadcast.ID) {
	require.Eventually(cl.t, func() bool {
		var err error
		position, err = cl.some(rand.IntN).hub.Position(cl.t.Context())
		return err == nil && position.Epoch() > 1
	}, time.Minute, time.Millisecond, "no server knows where the log stands")
	return position
}

// publish publishes once, and says nothing of what may happen meanwhile.
func (cl *cluster) publish(draw *rand.Rand, n int64) {
	topic := fmt.Sprint("t", draw.IntN(topics))
	switch err := cl.try(topic, fmt.Sprint(n)); {
	case err == nil:
	case errors.Is(err, broadcast.ErrNotPublished):
		cl.refused.Add(1)
	default:
		cl.unknown.Add(1)
	}
}

func (cl *cluster) try(topic, text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	s := cl.some(rand.IntN)
	if s == nil {
		return broadcast.ErrNotPublished
	}
	id, err := s.hub.Publish(ctx, broadcast.Message{Topic: topic, Type: topic, Data: []byte(text)})
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if text != last {
		cl.outcomes[text] = outcome{id, err}
	}
	return err
}

// last is the text of the messages that come when all is over, as often as it takes.
const last = "last"

// keepsItsWord checks that what was acknowledged is there, and what was refused is not.
func (cl *cluster) keepsItsWord(truth []entry) {
	there := make(map[string]broadcast.ID, len(truth))
	for _, e := range truth {
		there[e.text] = e.id
	}
	for text, o := range cl.outcomes {
		id, found := there[text]
		switch {
		case o.err == nil && !cl.config.Loses:
			assert.Equal(cl.t, o.id, id, "%q was acknowledged", text)
		case errors.Is(o.err, broadcast.ErrNotPublished):
			assert.False(cl.t, found, "%q was refused, and came all the same: %v", text, o.err)
		}
	}
}

// entry is what the engine has in the end.
type entry struct {
	id          broadcast.ID
	topic, text string
}

// truth is all that the engine has behind a position.
func (cl *cluster) truth(begin broadcast.ID) (all []entry) {
	journal, stop := cl.config.Open(cl.t)
	defer stop()
	ctx, cancel := context.WithTimeout(cl.t.Context(), time.Minute)
	defer cancel()
	_, newest, err := journal.Bounds(ctx)
	require.NoError(cl.t, err)
	if begin.Epoch() != newest.Epoch() {
		begin = broadcast.ID{}
	}
	for m, err := range journal.Tail(ctx, begin) {
		if err != nil {
			require.ErrorIs(cl.t, err, broadcast.ErrGap)
		} else if m.Topic != "" {
			all = append(all, entry{m.ID, m.Topic, string(m.Data)})
		}
		if m.ID.Seq() >= newest.Seq() {
			break
		}
	}
	texts := make(map[string]bool)
	for _, e := range all {
		require.False(cl.t, e.text != last && texts[e.text], "%q stands in the journal twice", e.text)
		texts[e.text] = true
	}
	return all
}

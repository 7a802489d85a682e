// Package clustertest checks that clients of several servers on one journal see each
// message exactly once and in order, or are told of a gap that is true, whatever fails.
package clustertest

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
	grant := func(r *http.Request) (*broadcast.Grant, error) {
		return &broadcast.Grant{Topics: r.URL.Query()["topic"]}, nil
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

// client is one client, which comes back wherever there is a server.
type client struct {
	name    string
	topics  []string
	address func() string
	onWS    bool
	failed  error

	mu   sync.Mutex // guards what follows
	seen []seen
}

// seen is a message that a client got, or a gap that it was told.
type seen struct {
	id    broadcast.ID
	topic string
	text  string
	isGap bool
	in    []string // topics of the gap
}

func newClient(draw *rand.Rand, i int) *client {
	c := &client{onWS: i%2 == 0}
	for _, k := range draw.Perm(topics)[:1+draw.IntN(3)] {
		c.topics = append(c.topics, fmt.Sprint("t", k))
	}
	c.name = fmt.Sprintf("client %d on %v", i, c.topics)
	return c
}

// listen takes what comes until ctx ends.
func (c *client) listen(ctx context.Context, begin broadcast.ID) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", c.address())
	}}
	defer transport.CloseIdleConnections()
	httpClient := &http.Client{Transport: transport}
	query := "?topic=" + strings.Join(c.topics, "&topic=")
	if c.onWS {
		w := ws.Client{URL: "ws://cluster/ws" + query, After: begin, Dial: ws.DialOptions{Client: httpClient, Options: ws.Options{PingInterval: time.Second}}, MaxBackoff: time.Second, Logger: silent}
		for m, err := range w.Messages(ctx) {
			var gap *broadcast.GapError
			switch {
			case errors.As(err, &gap):
				c.note(seen{id: gap.ID, isGap: true, in: gap.Topics})
			case err != nil:
				c.ends(ctx, err)
			default:
				c.note(seen{id: m.ID, topic: m.Topic, text: string(m.Data)})
			}
		}
		return
	}
	s := sse.Client{HTTP: httpClient, MaxBackoff: time.Second, Silence: 5 * time.Second, Logger: silent, Retry: func(e *sse.ResponseError) bool { return e.Temporary() }}
	r, err := http.NewRequestWithContext(ctx, "GET", "http://cluster/events"+query, nil)
	if err != nil {
		c.failed = err
		return
	}
	r.Header.Set("Last-Event-ID", begin.String())
	for e, err := range s.Events(r) {
		if err != nil {
			c.ends(ctx, err)
			return
		}
		id, err := broadcast.ParseID(e.ID)
		if err != nil {
			c.failed = err
			return
		}
		var gap struct{ Topics []string }
		if e.Type == "gap" {
			if c.failed = json.Unmarshal(e.Data, &gap); c.failed != nil {
				return
			}
		}
		c.note(seen{id: id, topic: e.Type, text: string(e.Data), isGap: e.Type == "gap", in: gap.Topics})
	}
}

func (c *client) ends(ctx context.Context, err error) {
	if ctx.Err() == nil {
		c.failed = fmt.Errorf("%s: %w", c.name, err)
	}
}

func (c *client) note(s seen) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, s)
}

// state says how far the client got, for who waits for it in vain.
func (c *client) state() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen) == 0 {
		return "it has got nothing"
	}
	return fmt.Sprintf("it got %d, the last was %+v, failed: %v", len(c.seen), c.seen[len(c.seen)-1], c.failed)
}

// due is the ID of the last message that the client has to get.
func (c *client) due(truth []entry) (last broadcast.ID) {
	for _, e := range truth {
		if slices.Contains(c.topics, e.topic) {
			last = e.id
		}
	}
	return last
}

func (c *client) reached(last broadcast.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen) > 0 && c.seen[len(c.seen)-1].id == last
}

// check compares what the client got with what the engine has: each message once and in
// order, and what is missing is what a gap was told of, which is true.
func (c *client) check(t *testing.T, begin broadcast.ID, truth []entry, loses bool) (deliveries, gaps int) {
	t.Helper()
	var want []entry
	for _, e := range truth {
		if slices.Contains(c.topics, e.topic) {
			want = append(want, e)
		}
	}
	epoch := want[len(want)-1].id.Epoch()
	place := func(id broadcast.ID) uint64 {
		if id.Epoch() != epoch {
			return 0 // before all that there is now
		}
		return id.Seq()
	}
	got := make(map[broadcast.ID]int)
	for _, s := range c.seen {
		if !s.isGap {
			got[s.id]++
			deliveries++
		}
	}
	told := make(map[broadcast.ID]bool) // that they may be missing
	last := begin
	for i, s := range c.seen {
		if s.id.Epoch() == last.Epoch() {
			assert.GreaterOrEqual(t, s.id.Seq(), last.Seq(), "%s got %v behind %v", c.name, s.id, last)
		}
		last = s.id
		if !s.isGap {
			continue
		}
		gaps++
		missing := 0
		for _, topic := range c.topics {
			if s.in != nil && !slices.Contains(s.in, topic) {
				continue
			}
			// What is kept of other topics may come between the gap and what follows it in
			// this one: all that is missing up to there is what it told of.
			from, to := c.around(i, topic, begin)
			for _, e := range want {
				if e.topic == topic && place(e.id) > place(from) && (to.IsZero() || place(e.id) < place(to)) && got[e.id] == 0 {
					told[e.id] = true
					missing++
				}
			}
		}
		assert.True(t, missing > 0 || loses, "%s was told of a gap at %v in %v, and nothing is missing", c.name, s.id, s.in)
	}
	for _, e := range want {
		if !told[e.id] {
			assert.Equal(t, 1, got[e.id], "%s and %v, %q", c.name, e.id, e.text)
		}
		delete(got, e.id)
	}
	assert.True(t, len(got) == 0 || loses, "%s got what the journal has not: %v", c.name, got)
	return deliveries, gaps
}

// around returns the messages of a topic that the client got before and after the i-th
// thing that it saw; the zero ID where none came after.
func (c *client) around(i int, topic string, begin broadcast.ID) (before, after broadcast.ID) {
	before = begin
	for k := i - 1; k >= 0; k-- {
		if c.seen[k].topic == topic {
			before = c.seen[k].id
			break
		}
	}
	for _, s := range c.seen[i+1:] {
		if s.topic == topic {
			return before, s.id
		}
	}
	return before, broadcast.ID{}
}

// Package endtoend_test runs the whole kit, over real connections.
package endtoend_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

func TestMain(m *testing.M) { leak.Main(m) }

const (
	topics     = 10
	publishers = 8
	messages   = 20_000
	clients    = 400 // half of them begin on each transport
	perRound   = 100
)

// TestEveryMessageOnceOrAGap has clients on both transports that are cut at
// random, and come back on either with the last ID they saw.
func TestEveryMessageOnceOrAGap(t *testing.T) {
	t.Run("rings that keep everything", func(t *testing.T) {
		run := deliver(t, &broadcast.Hub{Keep: messages})
		assert.Zero(t, run.gaps.Load(), "nothing was overrun")
		assert.Positive(t, run.cuts.Load())
	})
	t.Run("rings that are overrun all the time", func(t *testing.T) {
		run := deliver(t, &broadcast.Hub{Keep: 8})
		assert.Positive(t, run.gaps.Load())
	})
}

// run is one run: what was published, and what became of it.
type run struct {
	url     string
	history map[string][]uint64 // the sequences of each topic's messages, in order; complete before a client is checked
	ready   sync.WaitGroup      // until each client's first stream stands

	cuts, gaps, delivered, moves atomic.Int64
}

func deliver(t *testing.T, hub *broadcast.Hub) *run {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	mux := http.NewServeMux()
	grant := func(r *http.Request) (*broadcast.Grant, error) {
		return &broadcast.Grant{Topics: r.URL.Query()["topic"]}, nil
	}
	for path, detach := range map[string]bool{"": false, "/detached": true} {
		mux.Handle("/sse"+path, &sse.Handler{Broadcaster: hub, Grant: grant, Detach: detach})
		mux.Handle("/ws"+path, &ws.Handler{Broadcaster: hub, Grant: grant, Detach: detach, Options: ws.Options{Compression: true}})
	}
	server := httptest.NewServer(mux)
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()

	run := &run{url: server.URL, history: make(map[string][]uint64)}
	run.ready.Add(clients)
	var reading sync.WaitGroup
	all := make([]*client, clients)
	for i := range all {
		all[i] = newClient(run, i)
		reading.Go(func() { all[i].read(ctx) })
	}
	run.ready.Wait()
	run.publish(ctx, t, hub)
	reading.Wait()
	for _, c := range all {
		c.check(t)
	}
	t.Logf("%d deliveries, %d cuts, %d of them followed by another transport, %d gaps",
		run.delivered.Load(), run.cuts.Load(), run.moves.Load(), run.gaps.Load())
	require.NoError(t, hub.Close())
	return run
}

// publish publishes from several goroutines at once, and at last a message of
// type "end" on each topic. It does so in rounds, so that clients are cut and
// come back in between.
func (r *run) publish(ctx context.Context, t *testing.T, hub *broadcast.Hub) {
	var mu sync.Mutex
	put := func(topic int, typ string) {
		m := broadcast.Message{Topic: "topic " + strconv.Itoa(topic), Type: typ, Data: []byte("x")}
		if rand.N(50) == 0 {
			m.Data = bytes.Repeat(m.Data, 1000) // which is deflated
		}
		id, err := hub.Publish(ctx, m)
		if !assert.NoError(t, err) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		r.history[m.Topic] = append(r.history[m.Topic], id.Seq())
	}
	rounds := time.NewTicker(5 * time.Millisecond)
	defer rounds.Stop()
	for range messages / perRound {
		<-rounds.C
		var publishing sync.WaitGroup
		for range publishers {
			publishing.Go(func() {
				for range perRound / publishers {
					put(rand.N(topics), "")
				}
			})
		}
		for range perRound % publishers {
			put(rand.N(topics), "")
		}
		publishing.Wait()
	}
	for topic := range topics {
		put(topic, "end")
	}
	for _, seqs := range r.history {
		slices.Sort(seqs)
	}
}

// client is one subscriber through all its connections.
type client struct {
	run      *run
	topics   []string
	socket   bool   // on which transport it is now
	position string // the last ID it saw
	ended    map[string]bool
	seen     map[string][]seen
	problem  error
}

// seen is a message, and whether a gap on its topic was told before it.
type seen struct {
	seq uint64
	gap bool
}

func newClient(r *run, i int) *client {
	c := &client{run: r, socket: i%2 == 0, ended: map[string]bool{}, seen: map[string][]seen{}}
	for _, topic := range rand.Perm(topics)[:1+rand.N(2)] {
		c.topics = append(c.topics, "topic "+strconv.Itoa(topic))
	}
	return c
}

var errCut = errors.New("cut")

// read reads until the end of each topic, with a new connection whenever one was
// cut.
func (c *client) read(ctx context.Context) {
	var once sync.Once
	ready := func() { once.Do(c.run.ready.Done) }
	defer ready()
	for len(c.ended) < len(c.topics) && c.problem == nil {
		query := url.Values{"topic": c.topics, "lastEventId": {c.position}}.Encode()
		left := 1 + rand.N(1500)
		take := func(id, topic, typ string) error {
			ready()
			if err := c.take(id, topic, typ); err != nil {
				return err
			}
			if left--; left == 0 && len(c.ended) < len(c.topics) {
				return errCut
			}
			return nil
		}
		var err error
		if c.socket {
			err = c.overWebSocket(ctx, query, take)
		} else {
			err = c.overSSE(ctx, query, take)
		}
		switch {
		case errors.Is(err, errCut):
			c.run.cuts.Add(1)
			if rand.N(2) == 0 {
				c.socket = !c.socket
				c.run.moves.Add(1)
			}
		case err != nil:
			c.problem = err
		}
	}
}

func either(a, b string) string { return []string{a, b}[rand.N(2)] }

func (c *client) overSSE(ctx context.Context, query string, take func(id, topic, typ string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.run.url+"/sse"+either("", "/detached")+"?envelope=1&"+query, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	for e, err := range sse.NewReader(response.Body).All() {
		if err != nil {
			return err
		}
		if err := c.frame(e.Data, take); err != nil {
			return err
		}
		if len(c.ended) == len(c.topics) {
			return nil
		}
	}
	return errors.New("the stream ended")
}

func (c *client) overWebSocket(ctx context.Context, query string, take func(id, topic, typ string) error) error {
	conn, err := ws.Dial(ctx, c.run.url+"/ws"+either("", "/detached")+"?"+query, &ws.DialOptions{Options: ws.Options{Compression: rand.N(2) == 0}})
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	for len(c.ended) < len(c.topics) {
		_, data, err := conn.Read(context.Background())
		if err != nil {
			return err
		}
		if err := c.frame(data, take); err != nil {
			return err
		}
	}
	return nil
}

// frame takes an envelope apart by hand: decoding millions of them would be most
// of the test.
func (c *client) frame(data []byte, take func(id, topic, typ string) error) error {
	field := func(name string) string {
		_, rest, found := bytes.Cut(data, []byte(`"`+name+`":"`))
		value, _, _ := bytes.Cut(rest, []byte(`"`))
		if !found {
			return ""
		}
		return string(value)
	}
	for _, kind := range []string{"gap", "ready", "position"} {
		id := field(kind)
		if id == "" {
			continue
		}
		c.position = id
		if kind == "gap" {
			c.run.gaps.Add(1)
			for _, topic := range c.topics {
				if !bytes.Contains(data, []byte(`"topics"`)) || bytes.Contains(data, []byte(`"`+topic+`"`)) {
					c.seen[topic] = append(c.seen[topic], seen{gap: true})
				}
			}
		}
		return take(id, "", "")
	}
	return take(field("id"), field("topic"), field("type"))
}

func (c *client) take(id, topic, typ string) error {
	if topic == "" {
		return nil
	}
	parsed, err := broadcast.ParseID(id)
	if err != nil {
		return fmt.Errorf("%w: %q", err, id)
	}
	c.run.delivered.Add(1)
	c.position = id
	c.seen[topic] = append(c.seen[topic], seen{seq: parsed.Seq()})
	if typ == "end" {
		c.ended[topic] = true
	}
	return nil
}

// check compares what the client has seen with what was published: each message
// once and in order, and a gap told before the next where some are missing.
func (c *client) check(t *testing.T) {
	t.Helper()
	require.NoError(t, c.problem)
	for _, topic := range c.topics {
		due := c.run.history[topic]
		gap := false
		for _, s := range c.seen[topic] {
			if s.gap {
				gap = true
				continue
			}
			at := slices.Index(due, s.seq)
			if at < 0 {
				require.Fail(t, "not due", "message %d on %s was seen twice, out of order, or never published (%s)", s.seq, topic, strings.Join(c.topics, ", "))
			}
			if at > 0 && !gap {
				require.Fail(t, "not told", "%d messages on %s are missing before %d and no gap was told", at, topic, s.seq)
			}
			due, gap = due[at+1:], false
		}
		require.Empty(t, due, "messages on %s are missing at the end", topic)
	}
}

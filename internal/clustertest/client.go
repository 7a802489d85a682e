package clustertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

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
		w := ws.Client{URL: "ws://cluster/ws" + query, After: begin, Dial: ws.DialOptions{HTTPClient: httpClient, Options: ws.Options{PingInterval: time.Second}}, MaxBackoff: time.Second, Logger: silent}
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
	s := sse.Client{HTTPClient: httpClient, MaxBackoff: time.Second, Silence: 5 * time.Second, Logger: silent, Retry: func(e *sse.ResponseError) bool { return e.Temporary() }}
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

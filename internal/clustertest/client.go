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
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// client is one client. It reconnects to any server that runs.
type client struct {
	name      string
	topics    []string
	address   func() string // of a server
	transport transport

	failed error // set by listen, read after it

	mu       sync.Mutex // guards received
	received []received
}

// transport is what a client listens on.
type transport int

const (
	onWebSocket transport = iota
	onEventStream
	transports
)

// received is a message or a gap that a client got.
type received struct {
	id        broadcast.ID
	topic     string // of the message
	text      string
	isGap     bool
	gapTopics []string // of the gap; nil: all topics of the client
}

func newClient(draw *rand.Rand, i int, address func() string) *client {
	c := &client{transport: transport(i) % transports, address: address}
	for _, k := range draw.Perm(topics)[:1+draw.IntN(3)] {
		c.topics = append(c.topics, fmt.Sprint("t", k))
	}
	c.name = fmt.Sprintf("client %d on %v", i, c.topics)
	return c
}

// listen records what the client gets after a position, until ctx ends.
func (c *client) listen(ctx context.Context, begin broadcast.ID) {
	dial := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", c.address())
	}}
	defer dial.CloseIdleConnections()
	query := "?topic=" + strings.Join(c.topics, "&topic=")
	var err error
	switch c.transport {
	case onWebSocket:
		err = c.listenWS(ctx, &http.Client{Transport: dial}, "ws://cluster/ws"+query, begin)
	case onEventStream:
		err = c.listenSSE(ctx, &http.Client{Transport: dial}, "http://cluster/events"+query, begin)
	}
	if err != nil {
		c.failed = fmt.Errorf("%s: %w", c.name, err)
	}
}

func (c *client) listenWS(ctx context.Context, httpClient *http.Client, url string, begin broadcast.ID) error {
	w := ws.Client{
		URL: url, After: begin, MaxBackoff: time.Second, Logger: silent,
		Dial: ws.DialOptions{HTTPClient: httpClient, Options: ws.Options{PingInterval: time.Second}},
	}
	for m, err := range w.Messages(ctx) {
		var gap *broadcast.GapError
		switch {
		case errors.As(err, &gap):
			c.record(received{id: gap.ID, isGap: true, gapTopics: gap.Topics})
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		default:
			c.record(received{id: m.ID, topic: m.Topic, text: string(m.Data)})
		}
	}
	return nil
}

func (c *client) listenSSE(ctx context.Context, httpClient *http.Client, url string, begin broadcast.ID) error {
	s := sse.Client{
		HTTPClient: httpClient, MaxBackoff: time.Second, Silence: 5 * time.Second, Logger: silent,
		Retry: func(e *sse.ResponseError) bool { return e.Temporary() },
	}
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Last-Event-ID", begin.String())
	for e, err := range s.Events(r) {
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		id, err := broadcast.ParseID(e.ID)
		if err != nil {
			return err
		}
		if e.Type != "gap" {
			c.record(received{id: id, topic: e.Type, text: string(e.Data)})
			continue
		}
		var gap struct{ Topics []string }
		if err := json.Unmarshal(e.Data, &gap); err != nil {
			return err
		}
		c.record(received{id: id, isGap: true, gapTopics: gap.Topics})
	}
	return nil
}

func (c *client) record(r received) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = append(c.received, r)
}

// progress says how far the client got, for the report of a test that waits in vain.
func (c *client) progress() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.received) == 0 {
		return "it got nothing"
	}
	return fmt.Sprintf("it got %d, the last was %+v, failed: %v", len(c.received), c.received[len(c.received)-1], c.failed)
}

// lastOf returns the ID of the last message on the client's topics.
func (c *client) lastOf(truth []entry) (last broadcast.ID) {
	for _, e := range truth {
		if slices.Contains(c.topics, e.topic) {
			last = e.id
		}
	}
	return last
}

// reached reports whether the last message that the client got has an ID.
func (c *client) reached(last broadcast.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.received) > 0 && c.received[len(c.received)-1].id == last
}

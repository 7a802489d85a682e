package clustertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// client is one client. It reconnects to any server that runs.
type client struct {
	cluster   *cluster
	transport transport

	failed error // set by listen, read after it

	mu     sync.Mutex        // guards the fields below
	Client                   // what it got
	newest map[string]int64  // by topic: the highest number of a message
	last   map[string]string // by topic: the text of the last message
}

// transport is what a client listens on.
type transport int

const (
	onWebSocket transport = iota
	onEventStream
	transports
)

func newClient(draw *rand.Rand, i int, cl *cluster, begin broadcast.ID) *client {
	c := &client{transport: transport(i) % transports, cluster: cl, newest: make(map[string]int64), last: make(map[string]string)}
	for _, k := range draw.Perm(topics)[:1+draw.IntN(3)] {
		c.Topics = append(c.Topics, fmt.Sprint("t", k))
	}
	c.Name = fmt.Sprintf("client %d on %v", i, c.Topics)
	c.Begin = begin
	return c
}

// listen records what the client gets, until ctx ends.
func (c *client) listen(ctx context.Context) {
	dial := &http.Transport{DialContext: c.dial}
	defer dial.CloseIdleConnections()
	query := "?topic=" + strings.Join(c.Topics, "&topic=")
	var err error
	switch c.transport {
	case onWebSocket:
		err = c.listenWS(ctx, &http.Client{Transport: dial}, "ws://cluster/ws"+query)
	case onEventStream:
		err = c.listenSSE(ctx, &http.Client{Transport: dial}, "http://cluster/events"+query)
	}
	if err != nil {
		c.failed = fmt.Errorf("%s: %w", c.Name, err)
	}
}

// dial connects to a server, whatever the address.
func (c *client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	s := c.cluster.anyServer()
	if s == nil {
		return nil, errors.New("clustertest: no server runs")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	c.record(Event{Kind: Connected, Server: s.number})
	return &recordedConn{Conn: conn, closed: func() { c.record(Event{Kind: Disconnected, Server: s.number}) }}, nil
}

// recordedConn records when it is closed.
type recordedConn struct {
	net.Conn
	once   sync.Once
	closed func()
}

func (c *recordedConn) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}

func (c *client) listenWS(ctx context.Context, httpClient *http.Client, url string) error {
	w := ws.Client{
		URL: url, After: c.Begin, MaxBackoff: time.Second, Logger: silent,
		Dial: ws.DialOptions{HTTPClient: httpClient, Options: ws.Options{PingInterval: time.Second}},
	}
	for m, err := range w.Messages(ctx) {
		var gap *broadcast.GapError
		switch {
		case errors.As(err, &gap):
			c.record(Event{Kind: Gap, Entry: Entry{ID: gap.ID}, Lost: gap.Topics})
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		default:
			c.record(Event{Kind: Message, Entry: Entry{m.ID, m.Topic, string(m.Data)}})
		}
	}
	return nil
}

func (c *client) listenSSE(ctx context.Context, httpClient *http.Client, url string) error {
	s := sse.Client{
		HTTPClient: httpClient, MaxBackoff: time.Second, Silence: 5 * time.Second, Logger: silent,
		Retry: func(e *sse.ResponseError) bool { return e.Temporary() },
	}
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Last-Event-ID", c.Begin.String())
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
			c.record(Event{Kind: Message, Entry: Entry{id, e.Type, string(e.Data)}})
			continue
		}
		var gap struct{ Topics []string }
		if err := json.Unmarshal(e.Data, &gap); err != nil {
			return err
		}
		c.record(Event{Kind: Gap, Entry: Entry{ID: id}, Lost: gap.Topics})
	}
	return nil
}

// record adds an event that happens now.
func (c *client) record(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.At = c.cluster.now()
	c.Events = append(c.Events, e)
	if n, err := strconv.ParseInt(e.Text, 10, 64); err == nil {
		c.newest[e.Topic] = max(c.newest[e.Topic], n)
	} else if e.Kind == Message {
		c.last[e.Topic] = e.Text
	}
}

// hasNewer reports whether the client got, on each of its topics, a message whose publishing
// began after the n-th.
func (c *client) hasNewer(n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, topic := range c.Topics {
		if c.newest[topic] <= n {
			return false
		}
	}
	return true
}

// reached reports whether the client got the last messages of its topics, given by topic.
func (c *client) reached(last map[string]string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, topic := range c.Topics {
		if c.last[topic] != last[topic] {
			return false
		}
	}
	return true
}

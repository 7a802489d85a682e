package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// load has the clients, and publishes messages for them.
type load struct {
	scenario scenario
	clients  []*client
	restarts []time.Time

	stopPublishing context.CancelFunc
	publishing     chan error   // gets the result of publish
	published      atomic.Int64 // how many messages were published; they are numbered from 0

	disconnect context.CancelFunc
	reading    sync.WaitGroup
}

// startLoad connects all clients, and starts to publish once they are connected.
func startLoad(ctx context.Context, proxy *proxy, journal string, s scenario) (*load, error) {
	l := &load{scenario: s, publishing: make(chan error, 1)}
	reading, disconnect := context.WithCancel(ctx)
	l.disconnect = disconnect
	transport := &http.Transport{MaxIdleConnsPerHost: -1}
	var ready sync.WaitGroup
	for i := range 2 * s.clients {
		c := &client{kind: "Server-Sent Events", url: proxy.url, query: fmt.Sprintf("?client=%d&lastEventId=", i), http: &http.Client{Transport: transport}, connect: (*client).overSSE}
		if i%2 == 1 {
			c.kind, c.connect = "WebSocket", (*client).overWebSocket
		}
		l.clients = append(l.clients, c)
		ready.Add(1)
		c.ready = sync.OnceFunc(ready.Done)
		l.reading.Go(func() { c.run(reading) })
	}
	ready.Wait()

	publishing, stop := context.WithCancel(ctx)
	l.stopPublishing = stop
	go func() { l.publishing <- l.publish(publishing, journal) }()
	return l, nil
}

// publish publishes numbers until ctx ends.
func (l *load) publish(ctx context.Context, journal string) error {
	hub := &broadcast.Hub{Journal: newJournal(journal)}
	tick := time.NewTicker(time.Second / time.Duration(l.scenario.rate))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		_, err := hub.Publish(context.WithoutCancel(ctx), broadcast.Message{Topic: topic, Data: strconv.AppendInt(nil, l.published.Load(), 10)})
		if err != nil {
			return err
		}
		l.published.Add(1)
	}
}

// finish stops publishing, waits for the last messages to arrive, and disconnects the clients.
func (l *load) finish(ctx context.Context) error {
	l.stopPublishing()
	if err := <-l.publishing; err != nil {
		return err
	}
	for range 100 {
		if !slices.ContainsFunc(l.clients, func(c *client) bool { return c.count() < int(l.published.Load()) }) {
			break
		}
		wait(ctx, 100*time.Millisecond)
	}
	l.disconnect()
	l.reading.Wait()
	return nil
}

// client is one client over all its connections.
type client struct {
	kind    string
	url     string
	query   string // all of it but the last ID
	http    *http.Client
	connect func(*client, context.Context) error
	ready   func() // reports the first connection

	// owned by run
	lastID string
	retry  time.Duration

	// guarded by mu
	mu         sync.Mutex
	received   []int
	gaps       int
	reconnects []time.Time
	at         time.Time     // when the last message arrived
	silence    time.Duration // the longest time without a message
	connected  bool
}

// run connects again and again until ctx ends.
func (c *client) run(ctx context.Context) {
	for {
		c.retry = 500 * time.Millisecond
		_ = c.connect(c, ctx) // the client reconnects after any error
		c.setConnected(false)
		if ctx.Err() != nil {
			return
		}
		wait(ctx, c.retry/2+rand.N(c.retry))
		c.mu.Lock()
		c.reconnects = append(c.reconnects, time.Now())
		c.mu.Unlock()
	}
}

// overSSE reads an event stream as an EventSource does.
func (c *client) overSSE(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/events"+c.query+c.lastID, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Cache-Control", "no-cache")
	response, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	c.setConnected(true)
	reader := sse.NewReader(response.Body)
	// The position arrives before the first event, in a block that is not an event.
	for first := true; ; first = false {
		if first {
			c.ready()
		}
		e, err := reader.Read()
		if id := reader.LastEventID(); id != "" {
			c.lastID = id
		}
		if d := reader.Retry(); d > 0 {
			c.retry = d
		}
		if err != nil {
			return err
		}
		c.record(e.Type == "gap", string(e.Data))
	}
}

func (c *client) overWebSocket(ctx context.Context) error {
	conn, err := ws.Dial(ctx, c.url+"/ws"+c.query+c.lastID, &ws.DialOptions{HTTPClient: c.http})
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	c.setConnected(true)
	for {
		var m struct{ ID, Topic, Data, Ready, Gap, Position string }
		if err := conn.ReadJSON(ctx, &m); err != nil {
			return err
		}
		c.ready()
		c.lastID = m.ID + m.Ready + m.Gap + m.Position // only one of them is set
		if m.Topic != "" || m.Gap != "" {
			c.record(m.Gap != "", m.Data)
		}
	}
}

// record adds a message or a gap to the results.
func (c *client) record(gap bool, data string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gap {
		c.gaps++
		return
	}
	now := time.Now()
	if !c.at.IsZero() {
		c.silence = max(c.silence, now.Sub(c.at))
	}
	c.at = now
	if n, err := strconv.Atoi(data); err == nil {
		c.received = append(c.received, n)
	}
}

func (c *client) setConnected(is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connected = is
}

func (c *client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.received)
}

// report writes the results. It returns an error if a message was lost, doubled or out of
// order.
func (l *load) report(w io.Writer) error {
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\texpected\treceived\tlost\tduplicates\tout of order\tgaps\treconnects\tlongest silence\t")
	var bad int
	for _, kind := range []string{"Server-Sent Events", "WebSocket"} {
		var expected, received, lost, duplicates, disorder, gaps, reconnects int
		var silence time.Duration
		for _, c := range l.clients {
			if c.kind != kind {
				continue
			}
			times := make([]int, l.published.Load())
			for i, n := range c.received {
				times[n]++
				if i > 0 && n < c.received[i-1] {
					disorder++
				}
			}
			for _, n := range times {
				if n == 0 {
					lost++
				}
				duplicates += max(0, n-1)
			}
			expected += int(l.published.Load())
			received += len(c.received)
			gaps += c.gaps
			reconnects += len(c.reconnects)
			silence = max(silence, c.silence)
		}
		bad += lost + duplicates + disorder + gaps
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t\n", kind, expected, received, lost, duplicates, disorder, gaps, reconnects, silence.Round(10*time.Millisecond))
	}
	table.Flush()

	fmt.Fprintln(w, "\nreconnects by seconds after SIGTERM, for all restarts together:")
	buckets := map[int]int{}
	most := 0
	for _, c := range l.clients {
		for _, at := range c.reconnects {
			i := len(l.restarts) - 1
			for i > 0 && at.Before(l.restarts[i]) {
				i--
			}
			bucket := int(at.Sub(l.restarts[i]) / time.Second)
			buckets[bucket]++
			most = max(most, bucket)
		}
	}
	for second := range most + 1 {
		fmt.Fprintf(w, "%3d s %5d %s\n", second, buckets[second], strings.Repeat("#", buckets[second]*60/max(1, 2*l.scenario.clients*l.scenario.restarts/2)))
	}
	if bad > 0 {
		return fmt.Errorf("%d messages were lost, doubled, out of order or in a gap", bad)
	}
	return nil
}

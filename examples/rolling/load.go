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
	"text/tabwriter"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// load is the clients, and what is published for them.
type load struct {
	scenario scenario
	clients  []*client
	restarts []time.Time

	stop      context.CancelFunc // publishing
	published chan error
	due       int // messages published: they are numbered from 0

	hangUp  context.CancelFunc
	reading sync.WaitGroup
}

// startLoad connects all clients, and begins to publish once they listen.
func startLoad(ctx context.Context, proxy, journal string, s scenario) (*load, error) {
	l := &load{scenario: s, published: make(chan error, 1)}
	reading, hangUp := context.WithCancel(ctx)
	l.hangUp = hangUp
	transport := &http.Transport{MaxIdleConnsPerHost: -1}
	var ready sync.WaitGroup
	for i := range 2 * s.clients {
		c := &client{kind: "Server-Sent Events", url: proxy, http: &http.Client{Transport: transport}, listen: (*client).overSSE}
		if i%2 == 1 {
			c.kind, c.listen = "WebSocket", (*client).overWebSocket
		}
		l.clients = append(l.clients, c)
		ready.Add(1)
		c.ready = sync.OnceFunc(ready.Done)
		l.reading.Go(func() { c.run(reading) })
	}
	ready.Wait()

	publishing, stop := context.WithCancel(ctx)
	l.stop = stop
	go func() { l.published <- l.publish(publishing, journal) }()
	return l, nil
}

// publish publishes numbers until it is to stop.
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
		_, err := hub.Publish(context.WithoutCancel(ctx), broadcast.Message{Topic: topic, Data: strconv.AppendInt(nil, int64(l.due), 10)})
		if err != nil {
			return err
		}
		l.due++
	}
}

// finish ends the publishing, gives the last messages time to arrive, and hangs up.
func (l *load) finish(ctx context.Context) error {
	l.stop()
	if err := <-l.published; err != nil {
		return err
	}
	for range 100 {
		if !slices.ContainsFunc(l.clients, func(c *client) bool { return c.count() < l.due }) {
			break
		}
		wait(ctx, 100*time.Millisecond)
	}
	l.hangUp()
	l.reading.Wait()
	return nil
}

// client is one client through all its connections.
type client struct {
	kind   string
	url    string
	http   *http.Client
	listen func(*client, context.Context) error
	ready  func()

	mu         sync.Mutex
	last       string // ID
	seen       []int
	gaps       int
	reconnects []time.Time
	at         time.Time // of the last message
	silence    time.Duration
	retry      time.Duration
}

// run stays connected.
func (c *client) run(ctx context.Context) {
	for {
		c.retry = 500 * time.Millisecond
		_ = c.listen(c, ctx) // however it ended, the client comes back
		if ctx.Err() != nil {
			return
		}
		wait(ctx, c.retry/2+rand.N(c.retry))
		c.mu.Lock()
		c.reconnects = append(c.reconnects, time.Now())
		c.mu.Unlock()
	}
}

// overSSE listens as an EventSource does.
func (c *client) overSSE(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/events", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Cache-Control", "no-cache")
	r.Header.Set("Last-Event-ID", c.last)
	response, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	reader := sse.NewReader(response.Body)
	// The position alone fires no event; it is there before the first one is.
	for first := true; ; first = false {
		if first {
			c.ready()
		}
		e, err := reader.Read()
		if id := reader.LastEventID(); id != "" {
			c.last = id
		}
		if d := reader.Retry(); d > 0 {
			c.retry = d
		}
		if err != nil {
			return err
		}
		c.take(e.Type == "gap", string(e.Data))
	}
}

func (c *client) overWebSocket(ctx context.Context) error {
	conn, err := ws.Dial(ctx, c.url+"/ws?lastEventId="+c.last, &ws.DialOptions{HTTPClient: c.http})
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	for {
		var m struct{ ID, Topic, Data, Ready, Gap, Position string }
		if err := conn.ReadJSON(ctx, &m); err != nil {
			return err
		}
		c.ready()
		c.last = m.ID + m.Ready + m.Gap + m.Position // there is one of them
		if m.Topic != "" || m.Gap != "" {
			c.take(m.Gap != "", m.Data)
		}
	}
}

func (c *client) take(gap bool, data string) {
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
		c.seen = append(c.seen, n)
	}
}

func (c *client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

// report writes what became of everybody. Its error says that something was lost,
// doubled or out of order.
func (l *load) report(w io.Writer) error {
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tdue\treceived\tlost\tduplicates\tout of order\tgaps\treconnects\tlongest silence\t")
	var bad int
	for _, kind := range []string{"Server-Sent Events", "WebSocket"} {
		var due, received, lost, duplicates, disorder, gaps, reconnects int
		var silence time.Duration
		for _, c := range l.clients {
			if c.kind != kind {
				continue
			}
			times := make([]int, l.due)
			for i, n := range c.seen {
				times[n]++
				if i > 0 && n < c.seen[i-1] {
					disorder++
				}
			}
			for _, n := range times {
				if n == 0 {
					lost++
				}
				duplicates += max(0, n-1)
			}
			due += l.due
			received += len(c.seen)
			gaps += c.gaps
			reconnects += len(c.reconnects)
			silence = max(silence, c.silence)
		}
		bad += lost + duplicates + disorder + gaps
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t\n", kind, due, received, lost, duplicates, disorder, gaps, reconnects, silence.Round(10*time.Millisecond))
	}
	table.Flush()

	fmt.Fprintln(w, "\nreconnects by time after SIGTERM, of all restarts:")
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

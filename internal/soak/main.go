// Soak runs a server while clients come and go. Some of them read slowly; messages are of
// many sizes, on many topics. Every ten seconds it prints what the process uses, how many
// messages were lost without a gap, and how many came twice. It fails if any did.
//
//	go run ./internal/soak -for 10m
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

func main() {
	length := flag.Duration("for", 10*time.Minute, "how long to run")
	clients := flag.Int("clients", 300, "how many clients there are at any time")
	rate := flag.Int("rate", 500, "messages a second")
	flag.Parse()
	if err := run(*length, *clients, *rate); err != nil {
		log.Fatal(err)
	}
}

const topics = 50

var silent = slog.New(slog.DiscardHandler)

// soak is a run: the server and its counts.
type soak struct {
	hub     *broadcast.Hub
	address string

	published, delivered, gaps, connects, lost, twice, failed atomic.Int64
}

func run(length time.Duration, clients, rate int) error {
	s := &soak{hub: &broadcast.Hub{Keep: 512, Logger: silent}}
	grant := func(r *http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: r.URL.Query()["topic"]}, nil
	}
	mux := http.NewServeMux()
	for path, detach := range map[string]bool{"/attached": false, "/detached": true} {
		mux.Handle(path+"/events", &sse.Handler{Broadcaster: s.hub, Grant: grant, Detach: detach, Logger: silent, Options: sse.Options{WriteTimeout: 5 * time.Second}})
		mux.Handle(path+"/ws", &ws.Handler{Broadcaster: s.hub, Grant: grant, Detach: detach, Logger: silent, Options: ws.Options{WriteTimeout: 5 * time.Second, Compression: detach}})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.address = listener.Addr().String()
	server := &http.Server{Handler: mux, ConnContext: sse.ConnContext, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go server.Serve(listener)

	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() { s.churn(ctx) })
	}
	all.Go(func() { s.publish(ctx, rate) })
	s.report(ctx)
	all.Wait()
	_ = server.Close()
	_ = s.hub.Close()
	if s.lost.Load() > 0 || s.twice.Load() > 0 || s.failed.Load() > 0 {
		return errors.New("messages were lost or came twice, or a client failed")
	}
	return nil
}

// publish publishes messages numbered from 1 on each topic, of 16 bytes to 32 KiB, most of
// them small.
func (s *soak) publish(ctx context.Context, rate int) {
	var numbers [topics]int
	ticks := time.NewTicker(time.Second / time.Duration(rate))
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		t := rand.IntN(topics)
		numbers[t]++
		data := append(strconv.AppendInt(nil, int64(numbers[t]), 10), ' ')
		for size := 16 << (rand.IntN(12) * rand.IntN(2)); len(data) < size; {
			data = append(data, 'x')
		}
		name := fmt.Sprint("t", t)
		if _, err := s.hub.Publish(ctx, broadcast.Message{Topic: name, Type: name, Data: data}); err == nil {
			s.published.Add(1)
		}
	}
}

// churn runs one client after the other.
func (s *soak) churn(ctx context.Context) {
	for ctx.Err() == nil {
		life, cancel := context.WithTimeout(ctx, time.Duration(1+rand.IntN(30))*time.Second)
		c := &client{soak: s, last: make(map[string]int), gapped: make(map[string]bool), slow: rand.IntN(20) == 0}
		for _, t := range rand.Perm(topics)[:1+rand.IntN(5)] {
			c.topics = append(c.topics, fmt.Sprint("t", t))
		}
		err := c.listen(life)
		if ended := life.Err() != nil; !ended {
			s.failed.Add(1)
			fmt.Fprintln(os.Stderr, "a client ended:", err)
		}
		cancel()
	}
}

// client checks the numbers of the messages that it gets.
type client struct {
	*soak
	topics []string
	last   map[string]int  // the last number, by topic
	gapped map[string]bool // topics with a gap after the last number
	slow   bool
}

// listen follows the topics over a random transport until ctx ends. It returns the error that
// ended the client before.
func (c *client) listen(ctx context.Context) (last error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c.connects.Add(1)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.address)
		if err == nil && c.slow {
			_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	httpClient := &http.Client{Transport: transport}
	path := []string{"/attached", "/detached"}[rand.IntN(2)]
	query := "?topic=" + strings.Join(c.topics, "&topic=")
	if rand.IntN(2) == 0 {
		w := ws.Client{URL: "ws://soak" + path + "/ws" + query, Dial: ws.DialOptions{HTTPClient: httpClient, Options: ws.Options{Compression: rand.IntN(2) == 0}}, Logger: silent}
		for m, err := range w.Messages(ctx) {
			if gap, ok := errors.AsType[*broadcast.GapError](err); ok {
				c.gap(gap.Topics)
			} else if last = err; err == nil {
				c.message(m.Topic, m.Data)
			}
		}
		return last
	}
	r, err := http.NewRequestWithContext(ctx, "GET", "http://soak"+path+"/events"+query, nil)
	if err != nil {
		return err
	}
	e := sse.Client{HTTPClient: httpClient, Logger: silent}
	for event, err := range e.Events(r) {
		var gap struct{ Topics []string }
		switch {
		case err != nil:
			last = err
		case event.Type == "gap":
			_ = json.Unmarshal(event.Data, &gap)
			c.gap(gap.Topics)
		default:
			c.message(event.Type, event.Data)
		}
	}
	return last
}

// gap notes a gap in some topics; nil means all.
func (c *client) gap(in []string) {
	c.gaps.Add(1)
	for _, t := range c.topics {
		if in == nil || slices.Contains(in, t) {
			c.gapped[t] = true
		}
	}
}

// message counts a message, and what is missing before it.
func (c *client) message(topic string, data []byte) {
	text, _, _ := strings.Cut(string(data), " ")
	n, err := strconv.Atoi(text)
	switch last := c.last[topic]; {
	case err != nil:
		c.lost.Add(1)
	case last > 0 && n <= last:
		c.twice.Add(1)
	case last > 0 && n > last+1 && !c.gapped[topic]:
		c.lost.Add(int64(n - last - 1))
	}
	c.last[topic], c.gapped[topic] = n, false
	c.delivered.Add(1)
	if c.slow {
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
	}
}

// report prints a line every ten seconds.
func (s *soak) report(ctx context.Context) {
	fmt.Println("| after | heap, MB | resident, MB | goroutines | descriptors | subscriptions | connects | published | delivered | gaps | lost | twice |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|")
	began := time.Now()
	ticks := time.NewTicker(10 * time.Second)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Printf("| %v | %.1f | %.1f | %d | %d | %d | %d | %d | %d | %d | %d | %d |\n", time.Since(began).Round(time.Second),
			float64(m.HeapAlloc)/(1<<20), resident(), runtime.NumGoroutine(), descriptors(), s.hub.Stats().Subscriptions,
			s.connects.Load(), s.published.Load(), s.delivered.Load(), s.gaps.Load(), s.lost.Load(), s.twice.Load())
	}
}

// resident returns the resident memory of the process in MB; 0 where there is no /proc.
func resident() float64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.Atoi(strings.Fields(string(statm))[1])
	return float64(pages*os.Getpagesize()) / (1 << 20)
}

// descriptors returns the number of open descriptors; 0 where there is no /proc.
func descriptors() int {
	open, _ := os.ReadDir("/proc/self/fd")
	return len(open)
}

// Prices shows 500 prices, which change 2,000 times a second, on a link that a button makes
// slow. Each change is published twice: as the value of a Key, of which a slow page gets the
// newest, and as an event, of which it gets as many as it can. The page uses only an
// EventSource.
//
//	go run ./examples/prices
//
// With a folder for the log, the page goes on where it was after kill -9 and a new start:
//
//	go run ./examples/prices -dir /tmp/prices
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/filejournal"
	"github.com/fanfare-go/fanfare/sse"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "the address to listen on")
	dir := flag.String("dir", "", "the folder that keeps the prices; if empty, they are kept in memory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, *dir); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr, dir string) error {
	hub := newHub()
	if dir != "" {
		// A process that is killed loses nothing without syncing. A machine that fails would.
		journal := &filejournal.Journal{Dir: dir, SyncEvery: -1, MaxBytes: 64 << 20}
		defer journal.Close() // after the Hub, whose Close ends Run
		hub.Journal = journal
		go hub.Run(context.Background())
		defer hub.Close()
	}
	server := &http.Server{Handler: newPrices(hub), ConnContext: sse.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("Prices on http://%s\n", listener.Addr())
	ctx, cancel := context.WithCancel(ctx)
	traded := make(chan error, 1)
	go func() { traded <- trade(ctx, hub) }()
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx) // ends the streams too
	}()
	err = server.Serve(listener)
	cancel()
	return errors.Join(<-traded, ignore(err, http.ErrServerClosed))
}

func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// The topics. Both have every price.
const (
	keyed   = "keyed"   // each price is the value of its symbol
	unkeyed = "unkeyed" // each price is an event
)

// newHub keeps the newest price of each symbol for as long as it runs, and of the events those
// of one second.
func newHub() *broadcast.Hub {
	return &broadcast.Hub{Retain: map[string]broadcast.Retention{keyed: {TTL: -1}, unkeyed: {Keep: updates, TTL: -1}}}
}

//go:embed index.html
var page []byte

func newPrices(hub *broadcast.Hub) http.Handler {
	var links links
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page) // fails if the client has left
	})
	mux.Handle("GET /keyed", links.slow(&sse.Handler{Broadcaster: hub, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{keyed}, Beginning: true}, nil
	}}))
	mux.Handle("GET /unkeyed", links.slow(&sse.Handler{Broadcaster: hub, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{unkeyed}, Last: updates}, nil
	}}))
	mux.HandleFunc("POST /link", links.set)
	return mux
}

const (
	symbols = 500
	updates = 2000 // a second
	tick    = 10 * time.Millisecond
)

// price is the data of a message in JSON.
type price struct {
	Symbol int     `json:"s"` // 0 to 499; the page has names for them
	Price  float64 `json:"p"`
	At     int64   `json:"at"` // in milliseconds since 1970
}

// trade publishes prices until ctx ends. It goes on from those that the Hub has.
func trade(ctx context.Context, hub *broadcast.Hub) error {
	prices, err := restore(ctx, hub)
	if err != nil {
		return ignore(err, context.Canceled)
	}
	publish := func(i int) error {
		// A random walk, pulled back to where it began.
		prices[i] *= 1 + 0.001*rand.NormFloat64() + 0.0005*math.Log(first(i)/prices[i])
		data, err := json.Marshal(price{i, math.Round(100*prices[i]) / 100, time.Now().UnixMilli()})
		if err != nil {
			return err
		}
		m := broadcast.Message{Topic: keyed, Type: "price", Key: fmt.Sprint(i), Data: data}
		if _, err := hub.Publish(ctx, m); err != nil {
			return err
		}
		m.Topic, m.Key = unkeyed, ""
		_, err = hub.Publish(ctx, m)
		return err
	}
	for i := range symbols {
		if err := publish(i); err != nil {
			return ignore(err, context.Canceled)
		}
	}
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return nil
		}
		for range updates * tick / time.Second {
			if err := publish(rand.IntN(symbols)); err != nil {
				return ignore(err, context.Canceled)
			}
		}
	}
}

// first returns the price with which a symbol begins.
func first(i int) float64 { return 5 + float64(i*7919%29500)/100 }

// restore returns the newest prices that the Hub has, from the process before this one.
func restore(ctx context.Context, hub *broadcast.Hub) ([]float64, error) {
	prices := make([]float64, symbols)
	for i := range prices {
		prices[i] = first(i)
	}
	if err := hub.Ready(ctx); err != nil {
		return nil, err
	}
	s, err := hub.Subscribe(ctx, broadcast.SubscribeOptions{Topics: []string{keyed}, Beginning: true})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for buf := make([]*broadcast.Message, symbols); ; {
		n, err := s.Poll(buf)
		if err != nil && !errors.Is(err, broadcast.ErrBegin) {
			return nil, err
		}
		if n == 0 && err == nil {
			return prices, nil
		}
		for _, m := range buf[:n] {
			var p price
			if json.Unmarshal(m.Data, &p) == nil && p.Symbol >= 0 && p.Symbol < symbols && p.Price > 0 {
				prices[p.Symbol] = p.Price
			}
		}
	}
}

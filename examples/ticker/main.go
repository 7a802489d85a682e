// Ticker shows live prices. Each symbol has a topic, and a page gets the symbols that it shows
// over one stream of Server-Sent Events. The page uses only an EventSource.
//
//	go run ./examples/ticker
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "the address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr string) error {
	hub := broadcast.Hub{Keep: history}
	server := &http.Server{Handler: newTicker(&hub), ConnContext: sse.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("Ticker on http://%s\n", listener.Addr())
	go trade(ctx, &hub)
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx) // ends the streams too
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// history is the number of prices of a symbol that the hub keeps: a page begins with them, and
// may miss as many without a gap.
const history = 240

// symbols are all symbols with their first prices.
var symbols = map[string]float64{
	"ACME": 42.17, "BOLT": 118.40, "CORA": 9.83, "DUNE": 64.02, "ECHO": 231.75, "FERN": 17.36,
	"GALE": 88.90, "HALO": 305.11, "IRIS": 53.28, "JADE": 12.64, "KITE": 76.45, "LUMA": 149.99,
}

//go:embed index.html
var page []byte

func newTicker(hub *broadcast.Hub) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page) // fails if the client has left
	})
	mux.Handle("GET /prices", &sse.Handler{Broadcaster: hub, Grant: grant})
	return mux
}

// grant returns the topics of the symbols in the query: /prices?symbol=ACME&symbol=BOLT.
func grant(r *http.Request) (*fanfare.Grant, error) {
	requested := r.URL.Query()["symbol"]
	if len(requested) == 0 {
		return nil, &fanfare.Refusal{Status: http.StatusBadRequest, Err: errors.New("no symbol")}
	}
	var topics []string
	for _, symbol := range requested {
		if symbols[symbol] == 0 {
			return nil, &fanfare.Refusal{Status: http.StatusNotFound, Err: fmt.Errorf("no such symbol: %.20q", symbol)}
		}
		topics = append(topics, "price/"+symbol)
	}
	return &fanfare.Grant{Topics: topics, Last: history}, nil
}

// price is the data of a message in JSON.
type price struct {
	Symbol string    `json:"symbol"`
	Price  float64   `json:"price"`
	At     time.Time `json:"at"`
}

const interval = 250 * time.Millisecond // between two prices of a symbol

// trade publishes a new price of each symbol at each interval, until ctx ends. It begins with
// prices of the past, so that the charts are not empty.
func trade(ctx context.Context, hub *broadcast.Hub) {
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	prices := make(map[string]float64, len(symbols))
	drift := make(map[string]float64, len(symbols))
	for past := history; ; past-- {
		at := time.Now().Add(-interval * time.Duration(max(0, past))).UTC()
		for symbol, start := range symbols {
			if prices[symbol] == 0 {
				prices[symbol] = start
			}
			// A random walk with a drift, pulled back to the first price.
			drift[symbol] = 0.95*drift[symbol] + 0.0001*rand.NormFloat64() + 0.001*(start/prices[symbol]-1)
			prices[symbol] *= 1 + drift[symbol] + 0.0004*rand.NormFloat64()
			data, err := json.Marshal(price{symbol, float64(int(100*prices[symbol])) / 100, at})
			if err == nil {
				_, err = hub.Publish(ctx, broadcast.Message{Topic: "price/" + symbol, Type: "price", Data: data})
			}
			if err != nil {
				return // ctx has ended, or the hub is closed
			}
		}
		if past > 1 {
			continue
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}

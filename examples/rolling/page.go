package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

//go:embed index.html
var page []byte

// show serves a page that shows the site, until ctx ends.
func (s scenario) show(ctx context.Context, addr string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	o, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer o.close()
	w := newWatch(o)
	server := &http.Server{Handler: w.routes(ctx), ConnContext: sse.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	go w.publish(ctx)
	fmt.Printf("Page on http://%s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// watch looks at the site for the page.
type watch struct {
	*site
	hub        broadcast.Hub
	restarting atomic.Bool

	mu       sync.Mutex
	states   []string // guarded by mu: what each server does
	restarts int      // guarded by mu: those that are done
	err      error    // guarded by mu: why a restart failed

	seen []seen // by client; publish's
}

// seen is what a client has received.
type seen struct{ received, next, lost, twice int }

func newWatch(o *site) *watch {
	return &watch{site: o, states: []string{"ready", "ready"}, seen: make([]seen, len(o.load.clients))}
}

func (w *watch) routes(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page) // fails if the client has left
	})
	mux.Handle("GET /events", &sse.Handler{Broadcaster: &w.hub, Grant: func(*http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: []string{"site"}, Beginning: true}, nil
	}})
	mux.HandleFunc("POST /restart", func(rw http.ResponseWriter, r *http.Request) {
		if !w.restarting.CompareAndSwap(false, true) {
			http.Error(rw, "the servers are being restarted", http.StatusConflict)
			return
		}
		go w.restartAll(ctx)
		rw.WriteHeader(http.StatusAccepted)
	})
	return mux
}

// restartAll restarts one server after the other.
func (w *watch) restartAll(ctx context.Context) {
	defer w.restarting.Store(false)
	for i := range w.servers {
		err := w.restart(ctx, i, func(state string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.states[i] = state
		})
		w.mu.Lock()
		w.restarts++
		w.err = err
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// state is the data of the page in JSON.
type state struct {
	Servers    []string `json:"servers"`
	Clients    string   `json:"clients"` // where each is: "0" or "1" for a server, "-" while it reconnects
	Due        int      `json:"due"`     // messages, for all clients together
	Received   int      `json:"received"`
	Lost       int      `json:"lost"` // numbers that were skipped
	Twice      int      `json:"twice"`
	Restarts   int      `json:"restarts"`
	Restarting bool     `json:"restarting"`
	Error      string   `json:"error"`
}

// publish publishes the state ten times a second.
func (w *watch) publish(ctx context.Context) {
	for ctx.Err() == nil {
		data, err := json.Marshal(w.state())
		if err != nil {
			panic(err) // state has nothing that JSON has not
		}
		_, _ = w.hub.Publish(ctx, broadcast.Message{Topic: "site", Type: "state", Key: "state", Data: data})
		wait(ctx, 100*time.Millisecond)
	}
}

func (w *watch) state() state {
	s := state{Due: int(w.load.published.Load()) * len(w.seen), Restarting: w.restarting.Load()}
	w.mu.Lock()
	s.Servers, s.Restarts = append(s.Servers, w.states...), w.restarts
	if w.err != nil {
		s.Error = w.err.Error()
	}
	w.mu.Unlock()
	clients := make([]byte, len(w.seen))
	for i, c := range w.load.clients {
		numbers, connected := c.take()
		if clients[i] = '-'; connected {
			clients[i] = byte('0' + max(0, w.proxy.server(i)))
		}
		seen := &w.seen[i]
		seen.received += len(numbers)
		for _, n := range numbers {
			if n < seen.next {
				seen.twice++
				continue
			}
			seen.lost += n - seen.next
			seen.next = n + 1
		}
		s.Received += seen.received
		s.Lost += seen.lost
		s.Twice += seen.twice
	}
	s.Clients = string(clients)
	return s
}

// take returns the numbers that have been received since the last call, which are then
// forgotten, and whether the client is connected.
func (c *client) take() (numbers []int, connected bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	numbers, c.received = c.received, nil
	return numbers, c.connected
}

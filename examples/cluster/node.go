package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// node is one server: a Hub on the common log, and a handler for each transport. That is
// all a service of several servers needs.
type node struct {
	hub     *broadcast.Hub
	address string
	kill    func()

	mu     sync.Mutex // guards what follows
	panels []string   // the clients that it serves
}

func startNode(e *engine) (*node, error) {
	journal, closeJournal, err := e.open()
	if err != nil {
		return nil, err
	}
	n := &node{hub: &broadcast.Hub{Journal: journal, Logger: slog.New(slog.DiscardHandler)}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.hub.Run(ctx) })
	// Not before it knows where the log stands: else a client's first position would be one
	// that nobody can resume from. In a service that is what a readiness probe asks.
	for began := time.Now(); !n.hub.Stats().Following; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			cancel()
			running.Wait()
			closeJournal()
			return nil, fmt.Errorf("%s does not answer", e.name)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /events", &sse.Handler{Broadcaster: n.hub, Grant: n.grant})
	mux.Handle("GET /ws", &ws.Handler{Broadcaster: n.hub, Grant: n.grant})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		cancel()
		closeJournal()
		return nil, err
	}
	n.address = listener.Addr().String()
	conns := new(connections)
	server := &http.Server{Handler: mux, ConnState: conns.note, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	running.Go(func() { _ = server.Serve(listener) })
	n.kill = func() { // as a crash does: nobody is told
		_ = server.Close()
		conns.cut()
		cancel()
		running.Wait()
		_ = n.hub.Close()
		closeJournal()
	}
	return n, nil
}

// grant notes which panel of the page is served here.
func (n *node) grant(r *http.Request) (*broadcast.Grant, error) {
	panel := r.URL.Query().Get("panel")
	if panel == "" || len(panel) > 40 {
		return nil, &broadcast.Refusal{Status: http.StatusBadRequest, Err: errors.New("no panel")}
	}
	n.mu.Lock()
	n.panels = append(n.panels, panel)
	n.mu.Unlock()
	context.AfterFunc(r.Context(), func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if i := slices.Index(n.panels, panel); i >= 0 {
			n.panels = slices.Delete(n.panels, i, i+1)
		}
	})
	return &broadcast.Grant{Topics: []string{"count"}}, nil
}

func (n *node) serves() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.panels)
}

// connections are those of a server, WebSockets included.
type connections struct {
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

func (c *connections) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		if c.open == nil {
			c.open = make(map[net.Conn]struct{})
		}
		c.open[conn] = struct{}{}
	case http.StateClosed:
		delete(c.open, conn)
	}
}

func (c *connections) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		_ = conn.Close()
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// node is one server: a Hub on the shared log, and a handler for each transport. A service
// with several servers needs no more than that.
type node struct {
	hub     *broadcast.Hub
	address string
	kill    func()

	mu     sync.Mutex
	panels []string // guarded by mu: the connected clients, by their panel in the page
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
	// Wait until the Hub knows the log's position. Until then, clients would get a position that
	// cannot be resumed. A service's readiness probe should check the same.
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
	conns := &connections{Listener: listener, open: make(map[net.Conn]struct{})}
	server := &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	running.Go(func() { _ = server.Serve(conns) })
	n.kill = func() { // like a crash: without close frames and pending messages
		_ = server.Close()
		conns.cut()
		cancel()
		running.Wait()
		_ = n.hub.Close()
		closeJournal()
	}
	return n, nil
}

// grant adds the client's panel to the node's list until its stream ends.
func (n *node) grant(r *http.Request) (*fanfare.Grant, error) {
	panel := r.URL.Query().Get("panel")
	if panel == "" || len(panel) > 40 {
		return nil, &fanfare.Refusal{Status: http.StatusBadRequest, Err: errors.New("no panel")}
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
	return &fanfare.Grant{Topics: []string{"count"}}, nil
}

// clients returns the panels of the connected clients.
func (n *node) clients() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.panels)
}

// connections is a listener that knows its open connections. http.Server does not track those
// of WebSockets.
type connections struct {
	net.Listener

	mu   sync.Mutex
	open map[net.Conn]struct{} // guarded by mu
}

// connection removes itself from its connections when it is closed.
type connection struct {
	net.Conn
	of *connections
}

func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	own := &connection{conn, c}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[own] = struct{}{}
	return own, nil
}

func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// cut closes all open connections.
func (c *connections) cut() {
	c.mu.Lock()
	open := slices.Collect(maps.Keys(c.open))
	c.mu.Unlock()
	for _, conn := range open {
		_ = conn.Close()
	}
}

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/browser"
)

// cluster is three nodes, each of which can be killed and started again.
type cluster struct {
	engine *engine

	mu    sync.Mutex
	nodes [3]*node // guarded by mu; nil: killed
}

func newCluster(e *engine) (*cluster, error) {
	c := &cluster{engine: e}
	for i := range c.nodes {
		if err := c.start(i); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

func (c *cluster) close() {
	for i := range c.nodes {
		c.kill(i)
	}
}

func (c *cluster) start(i int) error {
	n, err := startNode(c.engine)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[i] != nil { // another request has started it
		go n.kill()
		return nil
	}
	c.nodes[i] = n
	return nil
}

func (c *cluster) kill(i int) {
	c.mu.Lock()
	n := c.nodes[i]
	c.nodes[i] = nil
	c.mu.Unlock()
	if n != nil {
		n.kill()
	}
}

// alive returns a random node that is alive, or nil.
func (c *cluster) alive() *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range rand.Perm(len(c.nodes)) {
		if c.nodes[i] != nil {
			return c.nodes[i]
		}
	}
	return nil
}

// count publishes the numbers from 1, each through a random node, until ctx ends.
func (c *cluster) count(ctx context.Context) {
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for n := 1; ; {
		if node := c.alive(); node != nil {
			publish, cancel := context.WithTimeout(ctx, 2*time.Second)
			_, err := node.hub.Publish(publish, broadcast.Message{Topic: "count", Data: strconv.AppendInt(nil, int64(n), 10)})
			cancel()
			if err == nil {
				n++ // after an error the number may have been published: it is then published twice, under two IDs
			}
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}

//go:embed index.html
var page []byte

// front returns the page's routes, and a load balancer for the nodes.
func (c *cluster) front() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page) // fails if the client has left
	})
	mux.Handle("GET /fanfare.js", browser.Handler())
	mux.HandleFunc("GET /nodes", c.list)
	mux.HandleFunc("POST /nodes/{i}/{what}", c.change)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			target := &url.URL{Scheme: "http", Host: "127.0.0.1:1"} // no server listens there
			if n := c.alive(); n != nil {
				target.Host = n.address
			}
			r.SetURL(target)
			r.Out.Host = r.In.Host // the Origin of a WebSocket is compared with it
		},
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, 0), // killed nodes are expected
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	mux.Handle("GET /events", proxy)
	mux.Handle("GET /ws", proxy)
	return mux
}

// list returns which nodes are alive, and the clients of each.
func (c *cluster) list(w http.ResponseWriter, r *http.Request) {
	type state struct {
		Alive  bool     `json:"alive"`
		Panels []string `json:"panels"`
	}
	states := make([]state, 0, len(c.nodes))
	c.mu.Lock()
	for _, n := range c.nodes {
		s := state{Alive: n != nil, Panels: []string{}}
		if n != nil {
			s.Panels = append(s.Panels, n.clients()...)
		}
		states = append(states, s)
	}
	c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(states) // fails if the client has left
}

// change kills a node, or starts it again.
func (c *cluster) change(w http.ResponseWriter, r *http.Request) {
	i, err := strconv.Atoi(r.PathValue("i"))
	if err != nil || i < 0 || i >= len(c.nodes) {
		http.NotFound(w, r)
		return
	}
	switch r.PathValue("what") {
	case "kill":
		c.kill(i)
	case "start":
		if err := c.start(i); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	default:
		http.NotFound(w, r)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

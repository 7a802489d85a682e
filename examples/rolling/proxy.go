package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// proxy is a minimal load balancer. It checks every 100 ms whether each server is ready, and
// sends requests to those that are ready, in turn.
type proxy struct {
	url   string
	addrs []string
	next  atomic.Uint64

	mu    sync.Mutex
	ready map[string]bool   // guarded by mu
	last  map[string]string // guarded by mu: the server that each client was sent to
}

func startProxy(ctx context.Context, servers []*process) (*proxy, error) {
	p := &proxy{ready: map[string]bool{}, last: map[string]string{}}
	for _, s := range servers {
		p.addrs = append(p.addrs, s.addr)
	}
	p.check(ctx)
	go func() {
		for ctx.Err() == nil {
			p.check(ctx)
			wait(ctx, 100*time.Millisecond)
		}
	}()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.url = "http://" + listener.Addr().String()
	reverse := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: p.choose(r.In.URL.Query().Get("client"))})
			r.Out.Host = r.In.Host // the Origin of a WebSocket is compared with it
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), // disconnects are expected
	}
	server := &http.Server{Handler: reverse}
	context.AfterFunc(ctx, func() { server.Close() })
	go server.Serve(listener)
	return p, nil
}

// check asks each server whether it is ready.
func (p *proxy) check(ctx context.Context) {
	for _, addr := range p.addrs {
		ready := false
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		if r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/ready", nil); err == nil {
			if response, err := http.DefaultClient.Do(r); err == nil {
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				ready = response.StatusCode == http.StatusOK
			}
		}
		cancel()
		p.mu.Lock()
		p.ready[addr] = ready
		p.mu.Unlock()
	}
}

// choose returns the next server that is ready, or the first server if none is, for a client.
func (p *proxy) choose(client string) (addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.last[client] = addr }()
	for range p.addrs {
		if addr = p.addrs[p.next.Add(1)%uint64(len(p.addrs))]; p.ready[addr] {
			return addr
		}
	}
	return p.addrs[0]
}

// server returns the index of the server that a client was sent to.
func (p *proxy) server(client int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Index(p.addrs, p.last[strconv.Itoa(client)])
}

// waitFor waits until a server is ready.
func (p *proxy) waitFor(ctx context.Context, addr string) error {
	for range 100 {
		p.mu.Lock()
		ready := p.ready[addr]
		p.mu.Unlock()
		if ready {
			return nil
		}
		wait(ctx, 100*time.Millisecond)
	}
	return fmt.Errorf("the server on %s does not become ready", addr)
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

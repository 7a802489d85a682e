package memnet

import (
	"context"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// Server is net/http's server in memory, for one request and those that follow
// from it.
type Server struct {
	http.Server
	network   Network
	listener  *Listener
	transport *http.Transport

	mu      sync.Mutex
	closed  bool           // no handler begins any more
	running sync.WaitGroup // Serve, and the handlers
}

// NewServer returns a server of h which serves a client like the one of r: over
// the network and the version of HTTP that r asks for, from its RemoteAddr, and
// with the values of its context. The caller calls Start, and Close.
func NewServer(h http.Handler, r *http.Request, preset Network) *Server {
	s := &Server{network: NetworkOf(r.Context(), preset), listener: Listen()}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.begin() {
			defer s.running.Done()
			h.ServeHTTP(w, r)
		}
	})
	s.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(r.Context()) }
	var remote net.Addr
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		remote = net.TCPAddrFromAddrPort(addr)
	}
	s.transport = &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			client, server := s.network.Pipe()
			if remote != nil {
				server = from{server, remote}
			}
			if err := s.listener.Put(ctx, server); err != nil {
				return nil, err
			}
			return client, nil
		},
	}
	if r.ProtoMajor > 1 {
		s.Protocols = new(http.Protocols)
		s.Protocols.SetUnencryptedHTTP2(true)
		s.transport.Protocols = s.Protocols
	}
	return s
}

// from is a server's connection from an address.
type from struct {
	net.Conn
	remote net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.remote }
func (f from) NetConn() net.Conn    { return f.Conn }

func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Add(1)
	}
	return !s.closed
}

// Start begins to serve.
func (s *Server) Start() {
	s.running.Go(func() { _ = s.Serve(s.listener) })
}

// Client returns a client of the server. Redirects are answers like others.
func (s *Server) Client() *http.Client {
	return &http.Client{
		Transport:     s.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// patience is how long a handler may take to return when its client has left.
const patience = time.Minute

// Close ends the server and its connections. It reports false if a handler does
// not return.
func (s *Server) Close() bool {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.transport.CloseIdleConnections()
	_ = s.Server.Close()
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		return false
	}
}

// Serve starts a server that ends with the test, and logs to it.
func Serve(t testing.TB, s *Server) {
	s.ErrorLog = log.New(logger{t}, "", 0)
	s.Start()
	t.Cleanup(func() {
		if !s.Close() {
			t.Errorf("the handler has not returned %v after its client left", patience)
		}
	})
}

type logger struct{ t testing.TB }

func (l logger) Write(p []byte) (int, error) {
	l.t.Logf("%s", p)
	return len(p), nil
}

// ClientRequest returns a request as a client makes it, of one that was made with
// package http or httptest.
func ClientRequest(ctx context.Context, r *http.Request) *http.Request {
	c := r.Clone(ctx)
	c.RequestURI = ""
	if c.URL.Host == "" {
		c.URL.Host = c.Host
	}
	if c.URL.Host == "" {
		c.URL.Host = "example.com"
	}
	if c.URL.Scheme == "" {
		c.URL.Scheme = "http"
	}
	return c
}

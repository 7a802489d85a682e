package memnet

import (
	"context"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

// Server is net/http's server in memory, for one request and those that follow
// from it.
type Server struct {
	http.Server
	network  Network
	remote   net.Addr // the client's; nil: the network's
	listener *Listener

	mu               sync.Mutex
	transports       []*http.Transport
	clients, servers []net.Conn
	closed           bool           // no handler begins any more
	running          sync.WaitGroup // Serve, and the handlers
}

// NewServer returns a server of h which serves a client like the one of r: over
// the network and the version of HTTP that r asks for, from its RemoteAddr, and
// with the values of its context. The caller calls Start, and Close.
func NewServer(h http.Handler, r *http.Request, preset Network) *Server {
	s := &Server{network: NetworkOf(r.Context(), preset), listener: Listen()}
	security := r.TLS
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			r.TLS = security // of httptest.NewRequest("GET", "https://...", nil)
		}
		if s.begin() {
			defer s.running.Done()
			defer s.logPanic(r)
			h.ServeHTTP(w, r)
		}
	})
	s.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(r.Context()) }
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		s.remote = net.TCPAddrFromAddrPort(addr)
	}
	if r.ProtoMajor > 1 {
		s.Protocols = new(http.Protocols)
		s.Protocols.SetUnencryptedHTTP2(true)
	}
	return s
}

func (s *Server) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := s.network.Pipe()
	if s.remote != nil {
		server = from{server, s.remote}
	}
	s.mu.Lock()
	s.clients, s.servers = append(s.clients, client), append(s.servers, server)
	s.mu.Unlock()
	if err := s.listener.Put(ctx, server); err != nil {
		client.Close()
		server.Close()
		return nil, err
	}
	return client, nil
}

// HangUp closes the clients' connections.
func (s *Server) HangUp() {
	s.mu.Lock()
	clients := s.clients
	s.clients = nil
	s.mu.Unlock()
	for _, c := range clients {
		c.Close()
	}
}

// abandon closes the server's connections, hijacked ones too, whose clients may
// have vanished.
func (s *Server) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.servers {
		c.Close()
	}
}

// from is a server's connection from an address.
type from struct {
	net.Conn
	remote net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.remote }
func (f from) NetConn() net.Conn    { return f.Conn }

// logPanic says what net/http's server would say of a handler's panic: before the
// handler counts as ended, for whoever waits for that lets the test end, and a log
// after that ends all of the tests.
func (s *Server) logPanic(r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v != http.ErrAbortHandler {
		s.ErrorLog.Printf("http: panic serving %s: %v\n%s", r.RemoteAddr, v, debug.Stack())
	}
	panic(http.ErrAbortHandler) // of which the server says nothing more
}

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

// Client returns a client of the server, with connections of its own. Redirects are
// answers like others.
func (s *Server) Client() *http.Client {
	transport := &http.Transport{DisableCompression: true, DialContext: s.dial, Protocols: s.Protocols}
	s.mu.Lock()
	s.transports = append(s.transports, transport)
	s.mu.Unlock()
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// patience is how long a handler may take to return when its client has left.
const patience = time.Minute

// grace is how long a handler has to notice by itself that its client has left.
const grace = time.Second

// Close ends the server and its connections. It reports false if a handler does
// not return.
func (s *Server) Close() bool {
	s.mu.Lock()
	s.closed = true
	transports := s.transports
	s.mu.Unlock()
	for _, t := range transports {
		t.CloseIdleConnections()
	}
	_ = s.Server.Close()
	s.HangUp()
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
	}
	s.abandon()
	timer.Reset(patience - grace)
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
	if c.Host != "" {
		c.URL.Host = c.Host
	}
	if c.URL.Host == "" {
		c.URL.Host = "example.com"
	}
	c.URL.Scheme = "http" // in memory; the handler sees the request's TLS
	return c
}

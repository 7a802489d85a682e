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

// Server is net/http's server in memory, for the clients of one test. Make one with
// [NewServer].
type Server struct {
	http.Server
	network  Network
	remote   net.Addr // the address that handlers see of their client; nil: the network's
	listener *Listener

	mu               sync.Mutex // guards what follows
	transports       []*http.Transport
	clients, servers []net.Conn
	closed           bool           // no handler starts any more
	running          sync.WaitGroup // Serve and the handlers
}

// NewServer returns a server of h for clients like that of r: with the network of r's
// context (else preset), the HTTP version, RemoteAddr and TLS state of r, and the values
// of its context. The caller calls Start and Close, or [Serve].
func NewServer(h http.Handler, r *http.Request, preset Network) *Server {
	s := &Server{network: NetworkOf(r.Context(), preset), listener: Listen()}
	security := r.TLS
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			r.TLS = security // httptest.NewRequest sets it for an https URL
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

// HangUp closes the clients' ends of all connections.
func (s *Server) HangUp() {
	s.mu.Lock()
	clients := s.clients
	s.clients = nil
	s.mu.Unlock()
	for _, c := range clients {
		c.Close()
	}
}

// abandon closes the server's ends, hijacked ones included. That reaches a handler whose
// client has vanished.
func (s *Server) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.servers {
		c.Close()
	}
}

// from is a server's end of a connection with the address of its client.
type from struct {
	net.Conn
	remote net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.remote }
func (f from) NetConn() net.Conn    { return f.Conn }

// logPanic logs a handler's panic as net/http's server does, but before the handler
// counts as ended: the test may end then, and a log after its end would panic.
func (s *Server) logPanic(r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v != http.ErrAbortHandler {
		s.ErrorLog.Printf("http: panic serving %s: %v\n%s", r.RemoteAddr, v, debug.Stack())
	}
	panic(http.ErrAbortHandler) // which net/http does not log again
}

// begin counts a handler as running, unless the server is closed.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Add(1)
	}
	return !s.closed
}

// Start serves connections until Close.
func (s *Server) Start() {
	s.running.Go(func() { _ = s.Serve(s.listener) })
}

// Client returns a client of the server with connections of its own. It does not follow
// redirects.
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

// patience is how long a handler may take to return once its client has left.
const patience = time.Minute

// grace is the part of patience in which a handler has to notice that itself. After it
// the server's end of the connection is closed too.
const grace = time.Second

// Close ends the server and its connections, and waits for the handlers. It reports
// false if one does not return.
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

// Serve starts the server and closes it when the test ends. The server logs to the test,
// which fails if a handler does not return.
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

// ClientRequest turns r, made with http.NewRequest or httptest.NewRequest, into a request
// that an http.Client can send.
func ClientRequest(ctx context.Context, r *http.Request) *http.Request {
	c := r.Clone(ctx)
	c.RequestURI = ""
	if c.Host != "" {
		c.URL.Host = c.Host
	}
	if c.URL.Host == "" {
		c.URL.Host = "example.com"
	}
	c.URL.Scheme = "http" // there is no TLS in memory; the handler sees the TLS state of r
	return c
}

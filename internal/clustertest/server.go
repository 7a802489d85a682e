package clustertest

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// server is one server of a cluster.
type server struct {
	number       int // no two have the same
	hub          *broadcast.Hub
	address      string
	http         *http.Server
	stopHub      func() // ends Hub.Run
	closeJournal func()

	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
}

// startServer starts a server whose Hub keeps so many messages of each topic.
func startServer(cl *cluster, keep int) *server {
	journal, closeJournal := cl.config.Open(cl.t)
	s := &server{
		number:       int(cl.started.Add(1)),
		hub:          &broadcast.Hub{Keep: keep, Journal: journal, Logger: silent},
		closeJournal: closeJournal,
		conns:        make(map[net.Conn]struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.hub.Run(ctx)
	}()
	s.stopHub = func() { cancel(); <-ended }
	s.http = &http.Server{
		Handler:  s.handler(),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateNew {
				cl.connections.Add(1)
				s.add(c)
			}
		},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(cl.t, err)
	s.address = listener.Addr().String()
	go s.http.Serve(listener)
	return s
}

func (s *server) handler() http.Handler {
	grant := func(r *http.Request) (*fanfare.Grant, error) {
		return &fanfare.Grant{Topics: r.URL.Query()["topic"]}, nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /events", &sse.Handler{
		Broadcaster: s.hub, Grant: grant, Logger: silent,
		Options: sse.Options{Heartbeat: time.Second, Retry: 10 * time.Millisecond},
	})
	mux.Handle("GET /ws", &ws.Handler{
		Broadcaster: s.hub, Grant: grant, Logger: silent,
		Options: ws.Options{PingInterval: time.Second},
	})
	return mux
}

func (s *server) add(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
}

// cut breaks all connections of clients.
func (s *server) cut() {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	clear(s.conns)
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// stop ends the server as a program does that is told to end.
func (s *server) stop() {
	_ = s.http.Close()
	s.cut()
	_ = s.hub.Close()
	s.stopHub()
	s.closeJournal()
}

// crash ends the server, which tells its engine nothing any more.
func (s *server) crash() {
	_ = s.http.Close()
	s.closeJournal()
	s.cut()
	_ = s.hub.Close()
	s.stopHub()
}

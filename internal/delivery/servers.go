package delivery

import (
	"context"
	"net/http"
	"sync"
)

// Servers knows which http.Servers are shutting down, for the streams of one
// handler: Server.Shutdown waits for open SSE streams without end, and forgets
// WebSocket connections. The zero value is ready.
type Servers struct {
	mu       sync.Mutex
	contexts map[*http.Server]context.Context
}

// Context ends when the server that r came in through begins to shut down. It
// is nil outside of a server.
func (s *Servers) Context(r *http.Request) context.Context {
	server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if server == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx := s.contexts[server]; ctx != nil {
		return ctx
	}
	ctx, cancel := context.WithCancel(context.Background())
	if s.contexts == nil {
		s.contexts = make(map[*http.Server]context.Context)
	}
	s.contexts[server] = ctx
	server.RegisterOnShutdown(cancel)
	return ctx
}

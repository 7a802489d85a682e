package delivery

import (
	"net/http"
	"sync"
)

// Servers knows which http.Servers are shutting down, for the streams of one
// handler: Server.Shutdown waits for open SSE streams without end, and forgets
// WebSocket connections. The zero value is ready.
type Servers struct {
	mu  sync.Mutex
	all map[*http.Server]*server
}

// server is an http.Server, and the streams that came in through it.
type server struct {
	mu      sync.Mutex
	streams map[*Stream]struct{}
	down    bool
}

// of returns the server that r came in through; nil outside of one.
func (s *Servers) of(r *http.Request) *server {
	key, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if key == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.all[key]; known != nil {
		return known
	}
	if s.all == nil {
		s.all = make(map[*http.Server]*server)
	}
	anew := &server{streams: make(map[*Stream]struct{})}
	s.all[key] = anew
	key.RegisterOnShutdown(anew.shutDown)
	return anew
}

// each calls f with each open stream.
func (s *Servers) each(f func(*Stream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, server := range s.all {
		server.mu.Lock()
		for stream := range server.streams {
			f(stream)
		}
		server.mu.Unlock()
	}
}

func (s *server) shutDown() {
	s.mu.Lock()
	s.down = true
	streams := make([]*Stream, 0, len(s.streams))
	for stream := range s.streams {
		streams = append(streams, stream)
	}
	s.mu.Unlock()
	for _, stream := range streams {
		stream.End(Restart)
	}
}

// add lets a stream end when the server begins to shut down. It reports false if that
// has been.
func (s *server) add(stream *Stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[stream] = struct{}{}
	return !s.down
}

func (s *server) remove(stream *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, stream)
}

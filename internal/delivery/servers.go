package delivery

import (
	"net/http"
	"runtime"
	"slices"
	"sync"
	"weak"
)

// servers knows the http.Servers that an engine's streams came in through. The streams
// of a server end when it begins to shut down: http.Server.Shutdown would wait for open
// event streams without end, and does not know of WebSockets. The zero value is ready.
type servers struct {
	mu  sync.Mutex
	all map[weak.Pointer[http.Server]]*server // a server that nobody uses any more is removed
}

// server is an http.Server, and the streams that came in through it.
type server struct {
	mu      sync.Mutex
	streams []*Stream // each knows its place; a map would take thrice as much
	down    bool      // it has begun to shut down
}

// of returns the server that r came in through; nil outside of one.
func (s *servers) of(r *http.Request) *server {
	httpServer, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if httpServer == nil {
		return nil
	}
	key := weak.Make(httpServer)
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.all[key]; known != nil {
		return known
	}
	if s.all == nil {
		s.all = make(map[weak.Pointer[http.Server]]*server)
	}
	added := new(server)
	s.all[key] = added
	httpServer.RegisterOnShutdown(added.shutDown)
	self := weak.Make(s) // a cleanup is a root: it must not keep the engine, whose Grant may know the server
	runtime.AddCleanup(httpServer, func(key weak.Pointer[http.Server]) {
		if s := self.Value(); s != nil {
			s.remove(key)
		}
	}, key)
	return added
}

func (s *servers) remove(key weak.Pointer[http.Server]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, key)
}

// each calls f, which must not block, with each open stream.
func (s *servers) each(f func(*Stream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, server := range s.all {
		server.mu.Lock()
		for _, stream := range server.streams {
			f(stream)
		}
		server.mu.Unlock()
	}
}

func (s *server) shutDown() {
	s.mu.Lock()
	s.down = true
	streams := slices.Clone(s.streams)
	s.mu.Unlock()
	for _, stream := range streams {
		stream.End(Restart)
	}
}

// add lets a stream end when the server begins to shut down. It reports false if the
// server has begun already.
func (s *server) add(stream *Stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	stream.place = int32(len(s.streams))
	s.streams = append(s.streams, stream)
	return !s.down
}

func (s *server) remove(stream *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.streams) - 1
	last := s.streams[n]
	s.streams[stream.place], last.place = last, stream.place
	s.streams[n] = nil
	if s.streams = s.streams[:n]; n < cap(s.streams)/4 {
		s.streams = slices.Clone(s.streams) // it does not keep the size of its peak
	}
}

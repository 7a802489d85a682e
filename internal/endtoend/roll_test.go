package endtoend_test

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/fanfare-go/fanfare"
)

// roll keeps the streams that each client has at the server. The zero roll is ready.
type roll struct {
	mu    sync.Mutex
	open  map[string]map[context.Context]bool
	begun int
}

// grant grants the topics asked for, and keeps the stream on the roll until it has ended.
func (l *roll) grant(r *http.Request) (*fanfare.Grant, error) {
	ctx, client := r.Context(), r.URL.Query().Get("client")
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = make(map[string]map[context.Context]bool)
	}
	if l.open[client] == nil {
		l.open[client] = make(map[context.Context]bool)
	}
	l.open[client][ctx] = true
	l.begun++
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open[client], ctx)
	})
	return asked(r)
}

// of returns the contexts of a client's streams.
func (l *roll) of(client string) []context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.open[client]))
}

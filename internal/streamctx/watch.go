package streamctx

import (
	"context"
	"errors"
	"net/http"
)

type serverKey struct{}

// WithServer returns a context for the requests of a connection, which know ctx as the
// context of their server. It is called with what http.Server.ConnContext gets.
func WithServer(ctx context.Context) context.Context {
	return context.WithValue(ctx, serverKey{}, ctx)
}

// MarkHijacked says that a stream has hijacked the connection of a request. From then on
// net/http ends the context only when the handlers have returned.
func MarkHijacked(ctx context.Context) {
	for h := holdOf(ctx); h != nil; h = h.outer {
		h.hijacked.Store(true)
	}
}

// WatchContext calls f, at most once, if the context that the streams of a request have
// ends before the connection does, as far as that can be seen, and before they were asked
// to end: something else than the client, a timeout or a middleware has ended it. The
// middleware calls stop when the handlers have returned, before it returns itself.
func (h *Hold) WatchContext(ctx context.Context, f func()) (stop func()) {
	if b := bypassOf(ctx); b != nil {
		ctx = b.ctx
	}
	check := func() {
		switch {
		case ctx.Err() == nil, errors.Is(ctx.Err(), context.DeadlineExceeded), h.wasAsked():
		case context.Cause(ctx) == errEnded: // by the Bypass
		case h.hijacked.Load() || serverEnded(ctx):
			f()
		}
	}
	unwatch := context.AfterFunc(ctx, check)
	return func() {
		if unwatch() {
			check() // a handler may see the end first
		}
	}
}

// wasAsked reports whether the streams were asked to end.
func (h *Hold) wasAsked() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.asked) > 0
}

// serverEnded reports whether the context of the server has ended, and so all of its
// requests. Where it is not known, the cause shows it: net/http gives none.
func serverEnded(ctx context.Context) bool {
	if server, ok := ctx.Value(serverKey{}).(context.Context); ok {
		return server.Err() != nil
	}
	server, ok := ctx.Value(http.ServerContextKey).(*http.Server)
	return ok && server.BaseContext != nil && context.Cause(ctx) != context.Canceled
}

package streamctx

import (
	"context"
	"net/http"
)

type probeKey struct{}

// WithProbe returns a context that lets f answer a request in place of the stream
// that it reaches, with what the stream would have had to stand on.
func WithProbe(ctx context.Context, f http.HandlerFunc) context.Context {
	return context.WithValue(ctx, probeKey{}, f)
}

// Probed lets the probe answer that a request carries, and reports whether there
// was one.
func Probed(w http.ResponseWriter, r *http.Request) bool {
	f, _ := r.Context().Value(probeKey{}).(http.HandlerFunc)
	if f == nil {
		return false
	}
	f(w, r.WithContext(WithProbe(r.Context(), nil)))
	return true
}

package streamctx

import (
	"context"
	"net/http"
)

type probeKey struct{}

// Probe answers a request in place of the stream that it reaches. It gets the writer and
// the request that the stream would have got, and what the handler lacks to begin one, or nil.
type Probe func(w http.ResponseWriter, r *http.Request, lacks error)

// WithProbe returns a context with a probe. If p is nil, there is none.
func WithProbe(ctx context.Context, p Probe) context.Context {
	return context.WithValue(ctx, probeKey{}, p)
}

// Probed has the request's probe answer it, and reports whether there was one. The
// probe's own request has none, so that it may begin a stream.
func Probed(w http.ResponseWriter, r *http.Request, lacks error) bool {
	p, _ := r.Context().Value(probeKey{}).(Probe)
	if p == nil {
		return false
	}
	p(w, r.WithContext(WithProbe(r.Context(), nil)), lacks)
	return true
}

package streamctx

import (
	"context"
	"net/http"
)

type probeKey struct{}

// WithProbe returns a context with a probe: f answers the request in place of the
// stream that it reaches, and gets the writer and the request that the stream would
// have got. If f is nil, there is no probe.
func WithProbe(ctx context.Context, f http.HandlerFunc) context.Context {
	return context.WithValue(ctx, probeKey{}, f)
}

// Probed has the request's probe answer it, and reports whether there was one. The
// probe's own request has none, so that it may begin a stream.
func Probed(w http.ResponseWriter, r *http.Request) bool {
	f, _ := r.Context().Value(probeKey{}).(http.HandlerFunc)
	if f == nil {
		return false
	}
	f(w, r.WithContext(WithProbe(r.Context(), nil)))
	return true
}

package streamctx

import "context"

type originKey struct{}

// WithOriginPassed returns a context for a request whose origin may connect.
func WithOriginPassed(ctx context.Context) context.Context {
	return context.WithValue(ctx, originKey{}, true)
}

// OriginPassed reports whether a middleware has checked the request's origin, and let
// it pass. The stream then does not check it again.
func OriginPassed(ctx context.Context) bool {
	passed, _ := ctx.Value(originKey{}).(bool)
	return passed
}

package streamctx

import "context"

type originKey struct{}

// WithOriginPassed returns a context for a request whose origin has been checked.
func WithOriginPassed(ctx context.Context) context.Context {
	return context.WithValue(ctx, originKey{}, true)
}

// OriginPassed reports whether the request's origin has been checked, and passed.
func OriginPassed(ctx context.Context) bool {
	passed, _ := ctx.Value(originKey{}).(bool)
	return passed
}

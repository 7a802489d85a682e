package streamctx

import "context"

// Apart returns a context for a request that a proxy sends on over another
// connection: without the Bypass, the holds and the checked origin, which belong to
// the request that the proxy answers. A probe goes on to the stream.
func Apart(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, bypassKey{}, (*bypass)(nil))
	ctx = context.WithValue(ctx, holdKey{}, (*Hold)(nil))
	ctx = context.WithValue(ctx, serverKey{}, nil)
	return context.WithValue(ctx, originKey{}, false)
}

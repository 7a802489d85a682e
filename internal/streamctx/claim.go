package streamctx

import (
	"context"
	"net/http"
)

// Claim is what a stream stands on: the ResponseWriter it writes to, and the
// context that ends it. They are the request's own, or a Bypass's where one is
// mounted.
type Claim struct {
	// Writer is what the stream writes to, once it has taken it.
	Writer http.ResponseWriter

	// Context has the values of the request's context, and ends when the stream has
	// to.
	Context context.Context

	direct *Bypass
	own    http.ResponseWriter
	before http.Header // what those in between have set when the request came here
	taken  bool
	stop   func()
	leave  func() // the holds, which wait from here on
	held   bool   // or are over
}

// ClaimOf returns what a stream of this request stands on. The caller calls Leave.
func ClaimOf(w http.ResponseWriter, r *http.Request) *Claim {
	d, _ := r.Context().Value(bypassKey{}).(*Bypass)
	leave, held := join(r.Context())
	if d == nil {
		return &Claim{Writer: w, Context: r.Context(), own: w, stop: func() {}, leave: leave, held: held}
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context()))
	stop := context.AfterFunc(d.ctx, func() { cancel(context.Cause(d.ctx)) })
	return &Claim{Writer: d.w, Context: ctx, direct: d, own: w, before: d.snapshot(), leave: leave, held: held, stop: func() {
		stop()
		cancel(context.Canceled)
	}}
}

// Apart returns a context without what this package keeps in one: for a request that
// goes on over another connection.
func Apart(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, bypassKey{}, (*Bypass)(nil))
	ctx = context.WithValue(ctx, holdKey{}, (*Hold)(nil))
	return context.WithValue(ctx, originKey{}, false)
}

// Take makes the writer the stream's. From now on nobody else reaches it.
func (g *Claim) Take() error {
	if !g.held {
		return errOver
	}
	if g.direct == nil {
		return nil
	}
	err := g.direct.take(g.before, g.own.Header())
	g.taken = err == nil
	return err
}

// Bypass reports whether the stream stands on a Bypass.
func (g *Claim) Bypass() bool { return g.direct != nil }

// Leave is called when the stream has ended, or has not come about, once or more, one
// call at a time. Nothing is written after it.
func (g *Claim) Leave() {
	g.stop()
	if g.taken {
		g.taken = false
		g.direct.streams.Done()
	}
	g.leave()
}

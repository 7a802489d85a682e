package streamctx

import (
	"context"
	"maps"
	"net/http"
)

// Claim is a stream's access to a request. Its methods are called by one goroutine
// at a time.
type Claim struct {
	// Writer is what the stream writes to once Take has succeeded: the server's own
	// ResponseWriter if a Bypass is mounted, else the request's.
	Writer http.ResponseWriter

	// Context has the values of the request's context. Below a Bypass it ends with
	// the server's context, and not with a timeout in between. If a Hold has cancelled
	// the request's context, it ends with the connection.
	Context context.Context

	// Set by ClaimOf.
	bypass *bypass             // nil if none is mounted
	w      http.ResponseWriter // the request's
	before http.Header         // set by the wrappers before the request came here
	stop   func()              // ends Context
	unhold func()              // lets the holds go on without this claim
	late   bool                // one of them has been released already
	head   bool                // the request's method is HEAD

	taken      bool         // a stream of the bypass that has not left yet
	announcing <-chan error // closed when Announce has ended; nil before it has begun
}

// ClaimOf returns a claim on the request. It copies the header now, because a
// timeout's late answer may change it at any time. The caller calls Leave.
func ClaimOf(w http.ResponseWriter, r *http.Request) *Claim {
	c := &Claim{Writer: w, Context: r.Context(), bypass: bypassOf(r.Context()), w: w, stop: func() {}, head: r.Method == http.MethodHead}
	var ok bool
	c.unhold, ok = join(r.Context())
	c.late = !ok
	ctx, stop, ended := unended(r.Context())
	switch {
	case ended:
		c.Context, c.stop = ctx, stop
	case c.bypass != nil:
		c.Context, c.stop = endingWith(r.Context(), c.bypass.ctx)
	}
	if c.bypass != nil {
		c.Writer, c.before = c.bypass.w, c.bypass.snapshot()
	}
	return c
}

// endingWith returns a context with the values of one context and the end of another.
func endingWith(values, end context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(values))
	unwatch := context.AfterFunc(end, func() { cancel(context.Cause(end)) })
	return ctx, func() {
		unwatch()
		cancel(context.Canceled)
	}
}

// Take makes the writer the stream's. Below a Bypass only the stream can use the writer
// from now on, and the response has the header that the wrappers and the stream's own
// handler have set, without what describes their content ([DropContent]). It fails if
// the request has been answered, has a stream or has ended. Without a Bypass it fails
// only if a Hold of the request has been released.
func (c *Claim) Take() error {
	if c.late {
		return errEnded
	}
	if c.bypass == nil {
		return nil
	}
	if err := c.bypass.claim(); err != nil {
		return err
	}
	c.taken = true
	c.bypass.calls.Wait() // a handler may be setting a deadline, or sending an informational response
	c.bypass.copyHeader(c.before)
	server := c.Writer.Header()
	maps.Copy(server, c.w.Header())
	DropContent(server)
	maps.Copy(server, c.bypass.content)
	return nil
}

// Bypass reports whether the stream uses a [Bypass].
func (c *Claim) Bypass() bool { return c.bypass != nil }

// Leave is called when the stream has ended or has not begun. Nothing is written
// after it. More calls have no effect.
func (c *Claim) Leave() {
	c.stop()
	if c.taken {
		c.taken = false
		c.bypass.streams.Done()
	}
	c.unhold()
}

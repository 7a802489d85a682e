package streamctx

import (
	"context"
	"sync"
	"sync/atomic"
)

// Hold counts one request and its streams for one middleware: a Limit, which counts
// the request until all of it has ended, or a Drain, which waits for that. It is in
// use until the handlers have returned, and the claims and streams of the request
// have ended.
type Hold struct {
	// Set by NewHold.
	outer   *Hold // of the next middleware outwards
	release func(*Hold)

	hijacked atomic.Bool // by one of the streams; see MarkHijacked

	// Guarded by mu.
	mu      sync.Mutex
	users   int // the handlers, claims and streams; after 0 the hold is released for good
	streams map[*attached]struct{}
	asked   []End // for streams that attach later
}

// attached is a stream that is known to its holds.
type attached struct{ end func(End) }

type holdKey struct{}

// holdOf returns the innermost hold of a request; nil if it has none.
func holdOf(ctx context.Context) *Hold {
	h, _ := ctx.Value(holdKey{}).(*Hold)
	return h
}

// NewHold returns a Hold on a request, and the context for the handlers below, after
// which the middleware calls Release. When the Hold is no longer in use it calls
// release with itself, once, in the goroutine of the last user.
func NewHold(ctx context.Context, release func(*Hold)) (*Hold, context.Context) {
	h := &Hold{outer: holdOf(ctx), release: release, users: 1}
	return h, context.WithValue(ctx, holdKey{}, h)
}

// Release is called by the middleware, once, when the handlers have returned.
func (h *Hold) Release() { h.leave() }

// join adds a user. It reports false if the hold has been released, which cannot
// happen twice.
func (h *Hold) join() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users == 0 {
		return false
	}
	h.users++
	return true
}

func (h *Hold) leave() {
	h.mu.Lock()
	h.users--
	unused := h.users == 0
	h.mu.Unlock()
	if unused {
		h.release(h)
	}
}

// End asks the streams of the request to end, those included that begin later.
func (h *Hold) End(how End) {
	h.mu.Lock()
	h.asked = append(h.asked, how)
	streams := make([]*attached, 0, len(h.streams))
	for s := range h.streams {
		streams = append(streams, s)
	}
	h.mu.Unlock()
	for _, s := range streams {
		s.end(how)
	}
}

// join adds a claim to each hold of the request, until leave is called for the first
// time. It reports false if one of them has been released: its middleware no longer
// counts the request.
func join(ctx context.Context) (leave func(), ok bool) {
	innermost := holdOf(ctx)
	if innermost == nil {
		return func() {}, true
	}
	var joined []*Hold
	leave = sync.OnceFunc(func() {
		for _, h := range joined {
			h.leave()
		}
	})
	for h := innermost; h != nil; h = h.outer {
		if !h.join() {
			return leave, false
		}
		joined = append(joined, h)
	}
	return leave, true
}

// Held reports whether a middleware has a Hold on the request.
func Held(ctx context.Context) bool { return holdOf(ctx) != nil }

// Attach makes a stream known to each Hold of the request, which then waits for it
// and can end it. It is called by a stream that has taken its [Claim] and has not
// left it. end may be called from any goroutine and more than once, first from within
// Attach, and once more shortly after detach; it must not block. The stream calls
// detach when it has ended; more calls of detach have no effect.
func Attach(ctx context.Context, end func(End)) (detach func()) {
	innermost := holdOf(ctx)
	if innermost == nil {
		return func() {}
	}
	s := &attached{end}
	var asked []End
	for h := innermost; h != nil; h = h.outer {
		asked = append(asked, h.attach(s)...)
	}
	for _, how := range asked {
		end(how)
	}
	return sync.OnceFunc(func() {
		for h := innermost; h != nil; h = h.outer {
			h.detach(s)
		}
	})
}

// attach adds a stream, and returns what the streams have been asked before.
func (h *Hold) attach(s *attached) (asked []End) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users++
	if h.streams == nil {
		h.streams = make(map[*attached]struct{})
	}
	h.streams[s] = struct{}{}
	return h.asked
}

func (h *Hold) detach(s *attached) {
	h.mu.Lock()
	delete(h.streams, s)
	h.mu.Unlock()
	h.leave()
}

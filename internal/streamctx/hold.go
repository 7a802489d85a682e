package streamctx

import (
	"context"
	"sync"
)

// End is how a middleware wants a stream to end.
type End struct {
	Code   int    // for a WebSocket; 0: 1012, after all that the client is owed
	Reason string // goes with Code
	Cut    bool   // at once, without a word
}

// Hold is what a middleware holds for a request: a place, or a shutdown that waits.
// It is held until the request's handler has returned and the streams that came of
// the request have ended, whichever is later.
type Hold struct {
	parent  *Hold
	release func()

	mu    sync.Mutex // guards what follows
	users int
	ends  map[*func(End)]struct{} // of the streams
	asked []End                   // what streams that come later are told as well
}

type holdKey struct{}

// NewHold returns a Hold that calls release when it is over, and the context for the
// handlers below. The middleware calls Release when those have returned.
func NewHold(ctx context.Context, release func()) (*Hold, context.Context) {
	parent, _ := ctx.Value(holdKey{}).(*Hold)
	h := &Hold{parent: parent, release: release, users: 1}
	return h, context.WithValue(ctx, holdKey{}, h)
}

// Release lets go of the hold for one who used it.
func (h *Hold) Release() {
	h.mu.Lock()
	h.users--
	over := h.users == 0
	h.mu.Unlock()
	if over {
		h.release()
	}
}

// join lets every Hold of a request wait for what may become a stream. It reports
// false if one of them is over: its middleware has let go of the request, and must not
// be made to do that again.
func join(ctx context.Context) (leave func(), ok bool) {
	innermost, _ := ctx.Value(holdKey{}).(*Hold)
	if innermost == nil {
		return func() {}, true
	}
	var joined []*Hold
	leave = sync.OnceFunc(func() {
		for _, h := range joined {
			h.Release()
		}
	})
	for h := innermost; h != nil; h = h.parent {
		h.mu.Lock()
		over := h.users == 0
		if !over {
			h.users++
		}
		h.mu.Unlock()
		if over {
			return leave, false
		}
		joined = append(joined, h)
	}
	return leave, true
}

// End asks the streams of the request to end.
func (h *Hold) End(how End) {
	h.mu.Lock()
	h.asked = append(h.asked, how)
	ends := make([]*func(End), 0, len(h.ends))
	for end := range h.ends {
		ends = append(ends, end)
	}
	h.mu.Unlock()
	for _, end := range ends {
		(*end)(how)
	}
}

// Held reports whether a middleware holds something for the request.
func Held(ctx context.Context) bool {
	h, _ := ctx.Value(holdKey{}).(*Hold)
	return h != nil
}

// Attach lets every Hold of a request wait for a stream that has a [Claim], and end
// it by calling end, which may be called at any time, more than once, and must not
// wait. The stream calls detach when it has ended, once or more.
func Attach(ctx context.Context, end func(End)) (detach func()) {
	innermost, _ := ctx.Value(holdKey{}).(*Hold)
	if innermost == nil {
		return func() {}
	}
	var asked []End
	for h := innermost; h != nil; h = h.parent {
		h.mu.Lock()
		h.users++
		if h.ends == nil {
			h.ends = make(map[*func(End)]struct{})
		}
		h.ends[&end] = struct{}{}
		asked = append(asked, h.asked...)
		h.mu.Unlock()
	}
	for _, how := range asked {
		end(how)
	}
	return sync.OnceFunc(func() {
		for h := innermost; h != nil; h = h.parent {
			h.mu.Lock()
			delete(h.ends, &end)
			h.mu.Unlock()
			h.Release()
		}
	})
}

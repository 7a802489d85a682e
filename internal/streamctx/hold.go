package streamctx

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Hold counts one request and its streams for one middleware: a Limit, which counts
// the request until all of it has ended, or a Drain, which waits for that. It is in
// use until the handlers have returned, and the claims and streams of the request
// have ended.
//
// It ends the streams by what they have attached, and the context of a request that is
// no stream of this kit.
type Hold struct {
	// Set by NewHold.
	outer   *Hold // of the next middleware outwards
	release func(*Hold)
	began   time.Time

	hijacked atomic.Bool // by one of the streams; see MarkHijacked
	key      Key         // set by the middleware before the handlers run; see Attachment.Key

	// Guarded by mu.
	mu       sync.Mutex
	parent   context.Context         // of the request when it came to the middleware; nil after Release
	cancel   context.CancelCauseFunc // ends the context of the handlers; nil after Release
	users    int                     // the handlers, claims and streams; after 0 the hold is released for good
	claims   int32                   // those among the users
	answered int32                   // how many of asked were for streams that have ended since
	streams  map[*Attachment]struct{}
	asked    []End // for streams that attach later
	ended    bool  // the context was cancelled
}

// Key is a fingerprint of who a request belongs to; zero if no middleware knows it.
type Key [8]byte

// SetKey sets what the streams of the request have as their Key. The middleware calls it before
// the handlers below.
func (h *Hold) SetKey(key Key) { h.key = key }

// Attachment is a stream that is known to its holds. The nil Attachment has none.
type Attachment struct {
	end      func(End)
	holds    *Hold // the innermost
	detached atomic.Bool
}

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
	h := &Hold{outer: holdOf(ctx), release: release, parent: ctx, began: time.Now(), users: 1}
	ctx, h.cancel = context.WithCancelCause(ctx)
	return h, context.WithValue(ctx, holdKey{}, h)
}

// Release is called by the middleware, once, when the handlers have returned.
func (h *Hold) Release() {
	h.mu.Lock()
	cancel := h.cancel
	h.parent, h.cancel = nil, nil // a stream that goes on must not pin the request
	h.mu.Unlock()
	cancel(context.Canceled) // as net/http is about to do
	h.leave()
}

// join adds a claim. It reports false if the hold has been released, which cannot
// happen twice. As long as there is a claim the context is not cancelled.
func (h *Hold) join() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users == 0 {
		return false
	}
	h.users++
	h.claims++
	return true
}

func (h *Hold) unjoin() {
	h.mu.Lock()
	h.claims--
	h.mu.Unlock()
	h.endContext() // a stream was refused: the handlers may answer in another way
	h.leave()
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

// youngest is how old a request must be before its context is cancelled by an End that
// is neither a disconnect nor a cut. A younger one may be on its way to a stream, which
// ends in good order: with its context cancelled, authentication would answer with an
// error, and an EventSource would not come back.
const youngest = time.Second

// End asks the streams of the request to end, those included that begin later. The
// context of a request that is no stream of this kit is cancelled.
func (h *Hold) End(how End) {
	h.mu.Lock()
	h.asked = append(h.asked, how)
	streams := make([]*Attachment, 0, len(h.streams))
	for s := range h.streams {
		streams = append(streams, s)
	}
	h.mu.Unlock()
	for _, s := range streams {
		s.end(how)
	}
	h.endContext()
}

// endContext cancels the context if the request has been asked to end and is no stream
// nor about to become one.
func (h *Hold) endContext() {
	h.mu.Lock()
	how, wait := h.askedOfContext()
	cancel := h.cancel
	if how != nil && wait <= 0 {
		h.ended = true
	}
	h.mu.Unlock()
	switch {
	case how == nil:
	case wait > 0:
		time.AfterFunc(wait, h.endContext)
	default:
		cancel(how.Cause)
	}
}

// askedOfContext returns what the context was asked to end for, and how long it may go
// on; nil if it has not been asked, or is a stream's. The caller has locked mu.
func (h *Hold) askedOfContext() (how *End, wait time.Duration) {
	if h.ended || len(h.streams) > 0 || h.claims > 0 || h.cancel == nil {
		return nil, 0
	}
	unanswered := h.asked[h.answered:]
	for i := range unanswered {
		switch end := &unanswered[i]; {
		case end.Finish:
		case end.Cut, end.Code != 0:
			return end, 0
		case how == nil:
			how, wait = end, youngest-time.Since(h.began)
		}
	}
	return how, wait
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
			h.unjoin()
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

// unended returns a context with the values of ctx that ends with the connection, and
// how to end it, if a hold has cancelled ctx. A stream that begins now is asked to end
// when it attaches, and can then say so to its client. It is called by a stream that has
// joined.
func unended(ctx context.Context) (fresh context.Context, stop func(), ok bool) {
	var outermost context.Context
	for h := holdOf(ctx); h != nil; h = h.outer {
		h.mu.Lock()
		ok = ok || h.ended
		outermost = h.parent
		h.mu.Unlock()
	}
	if !ok || outermost == nil {
		return nil, nil, false
	}
	fresh, stop = endingWith(ctx, outermost)
	return fresh, stop, true
}

// Held reports whether a middleware has a Hold on the request.
func Held(ctx context.Context) bool { return holdOf(ctx) != nil }

// Attach makes a stream known to each Hold of the request, which then waits for it
// and can end it. It is called by a stream that has taken its [Claim] and has not
// left it. end may be called from any goroutine and more than once, first from within
// Attach, and once more shortly after Detach; it must not block. The stream calls
// Detach when it has ended.
func Attach(ctx context.Context, end func(End)) *Attachment {
	innermost := holdOf(ctx)
	if innermost == nil {
		return nil
	}
	s := &Attachment{end: end, holds: innermost}
	var asked []End
	for h := innermost; h != nil; h = h.outer {
		asked = append(asked, h.attach(s)...)
	}
	for _, how := range asked {
		end(how)
	}
	return s
}

// Detach removes the stream from its holds. More calls have no effect.
func (s *Attachment) Detach() {
	if s == nil || s.detached.Swap(true) {
		return
	}
	for h := s.holds; h != nil; h = h.outer {
		h.detach(s)
	}
}

// Key returns the Key of the innermost hold that has one.
func (s *Attachment) Key() (key Key) {
	if s == nil {
		return key
	}
	for h := s.holds; h != nil && key == (Key{}); h = h.outer {
		key = h.key
	}
	return key
}

// attach adds a stream, and returns what the streams have been asked before.
func (h *Hold) attach(s *Attachment) (asked []End) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users++
	if h.streams == nil {
		h.streams = make(map[*Attachment]struct{})
	}
	h.streams[s] = struct{}{}
	return h.asked
}

func (h *Hold) detach(s *Attachment) {
	h.mu.Lock()
	delete(h.streams, s)
	if len(h.streams) == 0 {
		h.answered = int32(len(h.asked)) // the handler may go on, and what comes later is for it
	}
	h.mu.Unlock()
	h.leave()
}

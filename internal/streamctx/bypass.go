package streamctx

import (
	"context"
	"errors"
	"net/http"
	"sync"
)

// Bypass returns a handler that leads the streams of next past whatever wraps next:
// [ClaimOf] gives them the ResponseWriter and the context that this handler was
// called with. It returns when next has returned and the streams have ended.
func Bypass(next http.Handler) http.Handler {
	var failed failures
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if bypassOf(r.Context()) != nil {
			next.ServeHTTP(w, r) // mounted twice: the outer one reaches further
			return
		}
		b := newBypass(r.Context(), w, &failed)
		panicked := true
		defer func() {
			if panicked {
				b.cancel(errEnded) // a stream that still runs must not keep the panic waiting
			}
			b.close()
		}()
		next.ServeHTTP(&bypassWriter{b}, r.WithContext(context.WithValue(r.Context(), bypassKey{}, b)))
		panicked = false
	})
}

// bypass is one request that passed [Bypass]. The handlers below it write through a
// bypassWriter, which drops what they write once a stream has claimed the writer.
type bypass struct {
	// Set by newBypass.
	w      http.ResponseWriter // the server's
	ctx    context.Context     // the server's, and ended by cancel
	cancel context.CancelCauseFunc

	// content is what w's header says of the content: a compressor outside of the
	// Bypass has set it, through which a stream writes. It is nil if there is none.
	content http.Header

	failures *failures // of this Bypass, for all requests

	// io serialises what the handlers write. It is locked before mu.
	io sync.Mutex

	// calls counts the calls of w that the handlers have begun, and streams the
	// streams that have claimed w. Both are only added to under mu, in a state that
	// permits it, so that to wait for them after a change of state is to wait for all.
	calls   sync.WaitGroup
	streams sync.WaitGroup

	// Guarded by mu. No method of w is called while it is locked.
	mu     sync.Mutex
	state  bypassState
	header http.Header // of the response, as the handlers see it
}

var errEnded = errors.New("the request has ended")

type bypassKey struct{}

// bypassOf returns the bypass of a request; nil if it has none.
func bypassOf(ctx context.Context) *bypass {
	b, _ := ctx.Value(bypassKey{}).(*bypass)
	return b
}

func newBypass(ctx context.Context, w http.ResponseWriter, failures *failures) *bypass {
	b := &bypass{w: w, header: w.Header().Clone(), content: contentOf(w.Header()), failures: failures}
	if b.header == nil {
		b.header = make(http.Header)
	}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	return b
}

// close is called when the handlers have returned. It waits for their calls that are
// in progress in other goroutines, and for the streams.
func (b *bypass) close() {
	b.mu.Lock()
	unclaimed := b.state.writable()
	b.state = closed
	b.mu.Unlock()
	b.calls.Wait()
	if unclaimed {
		b.copyHeader(b.header) // for an answer without a byte, and for trailers
	}
	b.streams.Wait()
	b.cancel(errEnded)
}

// begin begins a call of w that leaves the request unanswered. It reports whether the
// handlers may make it; they then call calls.Done.
func (b *bypass) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.state.writable() {
		return false
	}
	b.calls.Add(1)
	return true
}

// beginAnswer is begin for a call that answers the request. It also reports whether
// this is the first such call.
func (b *bypass) beginAnswer() (first, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.state.writable() {
		return false, false
	}
	first = b.state == unanswered
	b.state = answered
	b.calls.Add(1)
	return first, true
}

// takeBack is called when the first answer has turned out to be impossible.
func (b *bypass) takeBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == answered {
		b.state = unanswered
	}
}

// claim makes w a stream's. The caller waits for calls before it uses w, and calls
// streams.Done when the stream has ended.
func (b *bypass) claim() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state {
	case answered:
		return errors.New("the request has been answered already")
	case claimed:
		return errors.New("the request has a stream already")
	case closed:
		return errEnded
	}
	b.state = claimed
	b.streams.Add(1)
	return nil
}

// snapshot returns a copy of the header so far; nil if no stream can claim w.
func (b *bypass) snapshot() http.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != unanswered {
		return nil
	}
	return b.header.Clone()
}

// copyHeader makes the server's header the same as this one.
func (b *bypass) copyHeader(header http.Header) {
	server := b.w.Header()
	clear(server)
	for name, values := range header {
		server[name] = values
	}
}

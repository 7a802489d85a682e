package middleware

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/ratelog"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Drain ends the streams of a server in good order before it shuts down. Load balancers
// notice first, then new streams are refused, and the open ones end one after the
// other, so that their clients do not all reach the next server at once. A stream ends
// after the messages that its server's Hub has for it, and its client resumes there. For
// an sse.Writer, and for a request that is no stream of this kit, such as one of another
// library or a loop of your own, its Context ends: the handler must watch it.
//
// Without a Drain, http.Server.Shutdown ends the streams of sse.Handler and ws.Handler
// too, but all at once. It waits forever for an sse.Writer, and does not know the
// connections of ws.Upgrade. Call it after [Drain.Shutdown].
//
// The zero Drain works. The fields are set before the first use; a Drain must not be
// copied after that.
type Drain struct {
	// Delay is how long Shutdown goes on accepting streams while Ready answers 503, so
	// that load balancers notice first. If zero or negative, it does not.
	Delay time.Duration

	// Spread is the time over which the open streams end. If the deadline of Shutdown's
	// ctx is closer, they end over three quarters of the time left. If zero, 10 s; if
	// negative, they end all at once.
	Spread time.Duration

	// FinishAnswers lets answers that are under way come to their own end: those of an
	// sse.Writer, such as the tokens of a language model, and requests that are no
	// streams. Shutdown ends the other streams over Spread, and waits for the answers
	// until its ctx ends; then their contexts end. Do not set it if there are such
	// streams that never end.
	FinishAnswers bool

	// Plain refuses an EventSource with 503 itself. See Limit.Plain.
	Plain bool

	// Logger gets refusals (Info), and a warning (Warn), once, if the context of a request
	// ends before its connection does: http.Server.BaseContext then returns a context
	// that ends on a signal, say, and all streams end at once. If nil, slog.Default().
	Logger *slog.Logger

	warned  atomic.Bool // of a context that has ended
	reports ratelog.Log

	// Guarded by mu.
	mu       sync.Mutex
	holds    map[*streamctx.Hold]struct{} // the requests that have passed Handler
	done     chan struct{}                // made when Shutdown is first called, closed when that call has ended
	refusing bool

	// Owned by the first Shutdown. Others read err once done is closed.
	err   error
	empty chan struct{} // made when refusing begins; closed, under mu, when holds is empty
}

// ErrDraining is wrapped by the cause (context.Cause) of a context that [Drain.Shutdown]
// has ended.
var ErrDraining = errors.New("middleware: Drain has ended the request")

const defaultSpread = 10 * time.Second

func (d *Drain) spread() time.Duration {
	if d.Spread == 0 {
		return defaultSpread
	}
	return max(0, d.Spread)
}

// Handler counts the requests that pass it, and refuses them with 503 once Shutdown has
// been called and Delay has passed. It goes around streams, inside of Origins and
// outside of Limit.
func (d *Drain) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hold, ctx := streamctx.NewHold(r.Context(), d.leave)
		if !d.enter(hold) {
			w.Header().Set("Connection", "close") // so that the client's next request can reach another server
			refuse(w, r, &d.reports, d.Logger, &fanfare.Refusal{
				Status:     http.StatusServiceUnavailable,
				RetryAfter: max(d.spread(), time.Second),
				Plain:      d.Plain,
				Err:        errors.New("the server is shutting down"),
			})
			return
		}
		defer hold.Release()
		defer hold.WatchContext(r.Context(), func() { d.warnOfContext(r.URL.Path) })()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// warnOfContext is called when the context of a request has ended before its connection,
// and before Shutdown has asked its streams to end.
func (d *Drain) warnOfContext(path string) {
	if d.warned.Swap(true) {
		return
	}
	cmp.Or(d.Logger, slog.Default()).Warn("middleware: the context of a request has ended before its connection, and its stream with it, which Drain was to end: "+
		"http.Server.BaseContext, or a middleware, must not return a context that ends on a signal", "path", ratelog.Cut(path))
}

func (d *Drain) enter(hold *streamctx.Hold) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refusing {
		return false
	}
	if d.holds == nil {
		d.holds = make(map[*streamctx.Hold]struct{})
	}
	d.holds[hold] = struct{}{}
	return true
}

func (d *Drain) leave(hold *streamctx.Hold) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.holds, hold)
	if d.refusing && len(d.holds) == 0 {
		close(d.empty)
	}
}

// Ready is the handler of a load balancer's health check. It answers 200, and 503 as
// soon as Shutdown has been called.
func (d *Drain) Ready(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	draining := d.done != nil
	d.mu.Unlock()
	status := http.StatusOK
	if draining {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(http.StatusText(status) + "\n"))
}

// Shutdown waits for Delay, refuses new streams, ends the open ones over Spread, and
// returns when they and all other requests that passed Handler have ended. Unless
// FinishAnswers is set, the context of such a request ends in its turn, too, but not
// before the request is a second old, since it may be about to become a stream. If ctx
// ends first, Shutdown cuts the connections of the remaining streams, ends the contexts
// of the other requests, and returns the error of ctx without waiting any longer. Another call waits for the first one, or for its
// own ctx.
func (d *Drain) Shutdown(ctx context.Context) error {
	d.mu.Lock()
	if done := d.done; done != nil {
		d.mu.Unlock()
		if !await(ctx, done) {
			return ctx.Err()
		}
		return d.err
	}
	d.done = make(chan struct{})
	d.mu.Unlock()
	defer close(d.done)

	d.err = d.shutdown(ctx)
	return d.err
}

func (d *Drain) shutdown(ctx context.Context) error {
	sleep(ctx, nil, d.Delay)
	d.refuse()
	d.endStreams(ctx)
	if await(ctx, d.empty) {
		return nil
	}
	for _, hold := range d.open() {
		hold.End(streamctx.End{Cut: true, Cause: ErrDraining})
	}
	return ctx.Err()
}

// refuse makes Handler refuse requests from now on.
func (d *Drain) refuse() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refusing = true
	d.empty = make(chan struct{})
	if len(d.holds) == 0 {
		close(d.empty)
	}
}

// endStreams asks the open streams to end, in random order and at equal intervals.
func (d *Drain) endStreams(ctx context.Context) {
	holds := d.open()
	rand.Shuffle(len(holds), func(i, j int) { holds[i], holds[j] = holds[j], holds[i] })
	spread := d.spread()
	if deadline, ok := ctx.Deadline(); ok {
		spread = min(spread, max(0, time.Until(deadline))*3/4)
	}
	start := time.Now()
	for i, hold := range holds {
		due := time.Duration(float64(spread) * (float64(i+1) / float64(len(holds)))) // an integer product could overflow
		sleep(ctx, d.empty, due-time.Since(start))
		hold.End(streamctx.End{Finish: d.FinishAnswers, Cause: ErrDraining})
	}
}

// open returns the requests that have not ended.
func (d *Drain) open() []*streamctx.Hold {
	d.mu.Lock()
	defer d.mu.Unlock()
	holds := make([]*streamctx.Hold, 0, len(d.holds))
	for hold := range d.holds {
		holds = append(holds, hold)
	}
	return holds
}

// await waits until done is closed or ctx ends, and reports whether done is closed.
func await(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-done: // both
		return true
	default:
		return false
	}
}

// sleep waits for the duration, or until empty is closed or ctx ends.
func sleep(ctx context.Context, empty <-chan struct{}, duration time.Duration) {
	if duration <= 0 {
		return
	}
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-empty:
	case <-ctx.Done():
	}
}

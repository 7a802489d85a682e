package middleware

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Drain ends the streams of a server that shuts down in good order: load balancers
// notice first, new streams are sent elsewhere, and open ones end one after the other,
// so that their clients do not all come to the next server at once. Each gets what it
// is owed before it ends, and resumes where it was. Owed is what its server's Hub has;
// with a Journal, what another server has just published comes after the resuming.
//
// http.Server.Shutdown alone ends the streams of sse.Handler and ws.Handler too, but
// all at once; it waits without end for an sse.Writer, and does not know of a
// ws.Upgrade. Call it after [Drain.Shutdown].
//
// The zero Drain works. Its fields are set before its first use; it must not be copied
// after that.
type Drain struct {
	// Delay is how long Shutdown still accepts streams while Ready says no, so that
	// load balancers notice first. If zero, not at all.
	Delay time.Duration

	// Spread is over how long the open streams are ended. If ctx of Shutdown leaves
	// less, over three quarters of that. If zero, 10 s; if negative, all at once.
	Spread time.Duration

	// Plain refuses everybody with 503, an EventSource too: see Limit.Plain.
	Plain bool

	// Logger gets refusals (Info). If nil, slog.Default().
	Logger *slog.Logger

	mu       sync.Mutex // guards what follows
	holds    map[*streamctx.Hold]struct{}
	done     chan struct{} // made when Shutdown begins, closed when it has ended
	err      error         // of Shutdown
	refusing bool
	empty    chan struct{} // closed when nothing is held any more; nil before refusing
}

const defaultSpread = 10 * time.Second

func (d *Drain) spread() time.Duration {
	if d.Spread == 0 {
		return defaultSpread
	}
	return max(0, d.Spread)
}

// Handler keeps count of what passes it, and refuses it once Shutdown has begun and
// Delay is over. It goes around streams, inside of Origins and outside of Limit.
func (d *Drain) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var hold *streamctx.Hold
		hold, ctx := streamctx.NewHold(r.Context(), func() { d.leave(hold) })
		if !d.enter(hold) {
			w.Header().Set("Connection", "close") // the next one is to reach another server
			refuse(w, r, d.Logger, http.StatusServiceUnavailable, max(d.spread(), time.Second), d.Plain, errors.New("the server is shutting down"))
			return
		}
		defer hold.Release()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
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

// Ready answers a load balancer's question whether this server takes streams: with
// 200, and with 503 as soon as Shutdown has begun.
func (d *Drain) Ready(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	began := d.done != nil
	d.mu.Unlock()
	status := http.StatusOK
	if began {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(http.StatusText(status) + "\n"))
}

// Shutdown lets Delay pass, then refuses new streams, ends the open ones over Spread,
// and waits until all have ended, and all other requests that passed Handler. When ctx
// ends first it cuts the rest, and returns the error of ctx. A second Shutdown waits for
// the first one, or for its own ctx.
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
	wait(ctx, nil, d.Delay)
	holds := d.refuse()
	rand.Shuffle(len(holds), func(i, j int) { holds[i], holds[j] = holds[j], holds[i] })
	spread := d.spread()
	if deadline, ok := ctx.Deadline(); ok {
		spread = min(spread, max(0, time.Until(deadline))*3/4)
	}
	began := time.Now()
	for i, hold := range holds {
		due := time.Duration(float64(spread) * (float64(i+1) / float64(len(holds))))
		wait(ctx, d.empty, due-time.Since(began)) // they leave by themselves, too
		hold.End(streamctx.End{})
	}
	if await(ctx, d.empty) {
		return nil
	}
	for _, hold := range d.refuse() {
		hold.End(streamctx.End{Cut: true})
	}
	return ctx.Err()
}

// await reports whether done is closed, for which it waits until ctx ends.
func await(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-done: // as well
		return true
	default:
		return false
	}
}

// refuse begins to refuse, and returns what is still held.
func (d *Drain) refuse() (holds []*streamctx.Hold) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.refusing {
		d.refusing = true
		d.empty = make(chan struct{})
		if len(d.holds) == 0 {
			close(d.empty)
		}
	}
	for hold := range d.holds {
		holds = append(holds, hold)
	}
	return holds
}

// wait waits until the time is over, or there is no reason to any more.
func wait(ctx context.Context, needless <-chan struct{}, duration time.Duration) {
	if duration <= 0 {
		return
	}
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-needless:
	case <-ctx.Done():
	}
}

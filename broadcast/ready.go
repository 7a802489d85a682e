package broadcast

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Ready waits until clients can be sent to this Hub: Run follows the Journal, and has
// everything that it had when Run began. It returns nil at once if that is so, also if ctx has
// ended, and for a Hub in memory. For a readiness probe, give ctx a deadline that is
// shorter than the probe's.
//
// A Hub that is ready stays so while the engine is away, since then all servers are in the
// same position and their streams stay open; see [HubStats.Following] for an alert. It is no longer
// ready when Run has returned, and while it is deaf: the Journal takes messages, and for 15
// seconds the tail has yielded none of them. Such a Hub ends its streams.
//
// When ctx ends, the error says what is missing and wraps the cause of ctx, and
// [ErrNotFollowing] if the Hub is deaf. If the Hub is closed it is [ErrClosed].
func (h *Hub) Ready(ctx context.Context) error {
	if err := h.check(); err != nil {
		return err
	}
	for {
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock()
			return ErrClosed
		}
		missing := h.missing()
		change := h.watch.awaitChange()
		h.mu.Unlock()
		if missing == nil {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", missing, context.Cause(ctx))
		}
	}
}

var (
	errNotRunning  = errors.New(`broadcast: the Hub is not ready: nobody runs it, call "go hub.Run(ctx)"`)
	errNotAnswered = errors.New("broadcast: the Hub is not ready: its journal has not answered yet")
)

// missing returns why the Hub is not ready; nil if it is. The caller holds mu.
func (h *Hub) missing() error {
	switch w := &h.watch; {
	case h.Journal == nil:
		return nil
	case !h.follower.running:
		return errNotRunning
	case w.deaf:
		return fmt.Errorf("broadcast: the Hub is not ready: %w", ErrNotFollowing)
	case w.ready:
		return nil
	case h.epoch == 0 || !w.asked:
		return errNotAnswered
	}
	behind, lag := h.behind(time.Now())
	return fmt.Errorf("broadcast: the Hub is not ready: it is %d entries behind its journal, and %v", behind, lag.Round(time.Millisecond))
}

// checkReady finds out whether the head has reached what the journal had when Run began, and
// what has been added since, but for the last moments. The caller holds mu.
func (h *Hub) checkReady(now time.Time) {
	w := &h.watch
	if w.ready || !w.asked || w.opened.IsZero() || h.head.Load() < w.target {
		return
	}
	if since := h.lag.since(); since.IsZero() || now.Sub(since) < 2*lookEvery {
		w.ready = true
		w.changed()
	}
}

// hearTimeout is how long a subscription without a position waits for the first answer of the
// journal. One that begins before that gets a gap if the journal has anything of its topics, and a
// page may load anew because of it.
const hearTimeout = 2 * time.Second

// hearOfJournal waits until the journal has answered for the first time, if Run runs. It returns
// the error of ctx if that ends before.
func (h *Hub) hearOfJournal(ctx context.Context) error {
	var timeout <-chan time.Time
	for {
		h.mu.Lock()
		if h.Journal == nil || h.epoch != 0 || h.follower.cancel == nil || h.closed {
			h.mu.Unlock()
			return nil
		}
		change := h.watch.awaitChange()
		h.mu.Unlock()
		if timeout == nil {
			timer := time.NewTimer(hearTimeout)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-change:
		case <-timeout:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

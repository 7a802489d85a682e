package broadcast

import (
	"context"
	"time"

	"github.com/fanfare-go/fanfare/internal/backoff"
)

const (
	// Pauses between attempts to reach the engine.
	leastPause = 50 * time.Millisecond
	firstPause = 100 * time.Millisecond // the first bound of what comes on top of leastPause
	mostPause  = 10 * time.Second       // the last bound
	mostClosed = 5 * time.Second        // of pauses.closed
)

// pauses are those of a goroutine that tries to reach the engine again. The goroutine owns
// them.
type pauses struct {
	backoff backoff.Backoff

	// closed is how long a pause lasts at least, even if the engine answers meanwhile. It
	// grows while such an answer does not help, so that an engine which answers some calls
	// and refuses others is not asked without end.
	closed time.Duration

	// least is how long a pause lasts at least if the engine does not answer meanwhile. It
	// doubles with each pause, up to mostLeast.
	least, mostLeast time.Duration
}

func newPauses() pauses {
	return pauses{backoff: backoff.Backoff{First: firstPause, Most: mostPause}, least: leastPause}
}

// reset makes the next pause a short one, after a success.
func (p *pauses) reset() {
	p.backoff.Reset()
	p.closed, p.least = 0, leastPause
}

// pause waits before another attempt. It ends when the engine answers another goroutine: the
// tail, the resolver, the historian and the appender learn from each other that the engine
// is back.
func (h *Hub) pause(ctx context.Context, p *pauses) {
	h.mu.Lock()
	if h.follower.answered == nil {
		h.follower.answered = make(chan struct{})
	}
	answered := h.follower.answered
	h.mu.Unlock()

	d := p.backoff.Next(p.least)
	p.least = max(p.least, min(2*p.least, p.mostLeast))
	closed := min(p.closed, d)
	_ = backoff.Sleep(ctx, closed)
	timer := time.NewTimer(max(1, d-closed))
	defer timer.Stop()
	select {
	case <-answered:
		p.closed = min(max(leastPause, 2*p.closed), mostClosed)
	case <-timer.C:
	case <-ctx.Done():
	}
}

// hearEngine ends the pauses of all goroutines that wait to reach the engine. The caller,
// which it has answered, holds Hub.mu.
func (f *follower) hearEngine() {
	if f.answered != nil {
		close(f.answered)
		f.answered = nil
	}
}

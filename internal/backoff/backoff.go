// Package backoff says how long a client waits before it connects again.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff draws waiting times with full jitter: any time up to a bound that doubles
// with each attempt, so that the clients of a server that went away do not come back
// together.
type Backoff struct {
	Most    time.Duration // the bound; if zero, 30 s
	attempt int
}

const (
	first       = 500 * time.Millisecond
	defaultMost = 30 * time.Second
	longest     = 24 * time.Hour // that a server may ask for

	// Good is how long a connection has to last to have proved good by that alone.
	Good = 5 * time.Second
)

// Next returns how long to wait, on top of what the server has asked for.
func (b *Backoff) Next(least time.Duration) time.Duration {
	most := b.Most
	if most <= 0 {
		most = defaultMost
	}
	bound := min(most, first<<b.attempt)
	if bound < most {
		b.attempt++
	}
	return min(least, longest) + rand.N(bound+1)
}

// Reset begins anew, once a connection has proved good.
func (b *Backoff) Reset() { b.attempt = 0 }

// Sleep waits. It returns the error of ctx if that ends before.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

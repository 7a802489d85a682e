// Package backoff says how long to wait before the next attempt.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff draws waiting times with full jitter: any time up to a bound that doubles
// with each attempt, so that those that failed together do not come back together.
type Backoff struct {
	First time.Duration // the first bound; if zero, 500 ms
	Most  time.Duration // the last bound; if zero, 30 s

	attempt int
}

const (
	defaultFirst = 500 * time.Millisecond
	defaultMost  = 30 * time.Second

	// Good is how long a connection has to last to have proved good by that alone.
	Good = 5 * time.Second
)

// Next returns how long to wait, on top of least.
func (b *Backoff) Next(least time.Duration) time.Duration {
	first, most := b.First, b.Most
	if first <= 0 {
		first = defaultFirst
	}
	if most <= 0 {
		most = defaultMost
	}
	bound := min(most, first<<b.attempt)
	if bound < most {
		b.attempt++
	}
	return least + rand.N(bound+1)
}

// Reset begins anew, once an attempt has succeeded.
func (b *Backoff) Reset() { b.attempt = 0 }

// Sleep waits. It returns the error of ctx if that ends before.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx) // a timer that is due at once crashes the race detector in a bubble of synctest (Go 1.26)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

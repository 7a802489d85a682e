// Package backoff says how long a client waits before it connects again.
package backoff

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
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

// RetryAfter returns what a response asks for (RFC 9110 section 10.2.3); 0 if nothing.
func RetryAfter(header http.Header) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return min(longest, time.Duration(max(0, min(seconds, 1<<30)))*time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, min(time.Until(at), longest))
	}
	return 0
}

// MayPass reports whether a status says that the same request may be answered
// otherwise later.
func MayPass(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

package sse

import (
	"math/rand/v2"
	"time"
)

// Options are the times of a stream. A negative one turns off what it is for.
type Options struct {
	// Heartbeat is how long a stream may be silent before something is sent, so
	// that proxies do not cut it and a vanished client is found out. Polyfills
	// give up after 45 s. If zero, 15 s.
	Heartbeat time.Duration

	// WriteTimeout is how long a client may take to accept one write before it
	// is cut. Each write has between half of it and all of it; it is of at most 64
	// KiB, and what is larger has several. A request whose body does not come is
	// given up after it, too. If zero, 10 s.
	WriteTimeout time.Duration

	// Retry is how long a client is told to wait before it reconnects. If zero,
	// 3 s; if negative, the client's own default stands.
	Retry time.Duration

	// MaxAge is how long a stream lives at most, so that clients move on to
	// newer servers in time. It ends after 80 to 100 % of it, at random, and the
	// client reconnects. If zero, there is no limit.
	MaxAge time.Duration
}

const defaultWriteTimeout = 10 * time.Second

// or returns d, the default if it is zero, or 0 if it is turned off.
func or(d, preset time.Duration) time.Duration {
	switch {
	case d == 0:
		return preset
	case d < 0:
		return 0
	}
	return d
}

// withDefaults returns options in which 0 means off.
func (o Options) withDefaults() Options {
	return Options{
		Heartbeat:    or(o.Heartbeat, 15*time.Second),
		WriteTimeout: or(o.WriteTimeout, defaultWriteTimeout),
		Retry:        or(o.Retry, 3*time.Second),
		MaxAge:       or(o.MaxAge, 0),
	}
}

// age draws how long a stream lives; 0: without end.
func (o Options) age() time.Duration {
	if o.MaxAge == 0 {
		return 0
	}
	return o.MaxAge - rand.N(o.MaxAge/5+1)
}

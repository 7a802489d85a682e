package sse

import (
	"cmp"
	"net/http"
	"time"
)

// Options are the times of a stream, and its status. The zero value has the defaults. A
// negative duration turns off what the field is for.
type Options struct {
	// Heartbeat is how long a stream may be silent before a heartbeat is sent (WHATWG
	// HTML 9.2.7). Heartbeats keep proxies from cutting the connection, and fail once
	// the client has vanished. Polyfills of EventSource give up after 45 s without
	// one. If zero, 15 s. If negative, none is sent.
	Heartbeat time.Duration

	// WriteTimeout is how long a client may take to accept one write before its
	// connection is cut. A write is at most 64 KiB: a larger message is written in
	// parts, each of which has WriteTimeout. Over HTTP/1 a write to a client that was fast
	// has up to three times as long: its receive buffer is large, and accepts nothing
	// until a part of it has been read. The rest of a request's body has to arrive within
	// WriteTimeout, too. If zero, 10 s. If negative, writes have no deadline, and a body
	// has 10 s.
	WriteTimeout time.Duration

	// Retry is the reconnection time that the client is sent (WHATWG HTML 9.2.6): how
	// long it waits before it reconnects. Each stream sends a time of its own, at random
	// between 75 and 125 % of it, so that clients that were cut together do not come back
	// together. It is rounded down to milliseconds, and at least 1 ms. If zero, 3 s. If
	// negative, none is sent, and the client's own default applies. A stream that ends because
	// its client is too slow for its beginnings sends up to twice as long, and at least 5 s.
	Retry time.Duration

	// MaxAge is the longest a stream lives. Each stream ends at random between 80 and
	// 100 % of it, so that clients that connected together do not reconnect together.
	// It makes clients move to new servers in time. If zero or negative, there is no
	// limit.
	MaxAge time.Duration

	// Status is the status of the response. An EventSource and a [Client] accept 200
	// alone; it is for clients of an API of your own. If zero, 200. Any other that is not
	// from 200 to 599, or has no content (204, 205, 304), is an error of NewWriter, and
	// of each request to a Handler.
	Status int
}

const defaultWriteTimeout = 10 * time.Second

// withDefaults returns options in which 0 means off.
func (o Options) withDefaults() Options {
	return Options{
		Heartbeat:    orDefault(o.Heartbeat, 15*time.Second),
		WriteTimeout: orDefault(o.WriteTimeout, defaultWriteTimeout),
		Retry:        orDefault(o.Retry, 3*time.Second),
		MaxAge:       orDefault(o.MaxAge, 0),
		Status:       cmp.Or(o.Status, http.StatusOK),
	}
}

// orDefault returns d, or preset if d is zero, or 0 if d is negative and thereby off.
func orDefault(d, preset time.Duration) time.Duration {
	if d == 0 {
		return preset
	}
	return max(0, d)
}

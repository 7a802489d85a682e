package ws

import (
	"net/http"
	"time"
)

// Options are what a WebSocket is allowed. A negative limit or duration turns off
// what it is for.
type Options struct {
	// Subprotocols are those that the server speaks, in order of preference. The
	// first that the client offers is chosen.
	Subprotocols []string

	// CheckOrigin refuses a browser's page that may not connect, by an error. If
	// nil, whoever a middleware.Origins has passed may; without one, a page of the
	// same host, and what is no browser: whoever sends neither Origin nor a
	// Sec-Fetch-Site that is foreign.
	CheckOrigin func(*http.Request) error

	// MaxMessage is how many bytes a message from the peer may have. A larger
	// one closes the connection with 1009. If zero, 32 KiB.
	MaxMessage int64

	// MessageRate is how many messages a second a client of a Handler may send,
	// in bursts of as many. One more closes the connection with 1008. If zero,
	// there is no limit.
	MessageRate float64

	// Compression offers permessage-deflate (RFC 7692), without context takeover: a
	// message of 512 bytes or more goes out deflated where that makes it smaller. A
	// Handler deflates a message once for all its clients. MaxMessage counts what a
	// message inflates to.
	//
	// Do not compress what mixes secrets with what a client can choose (CRIME), nor
	// what is compressed already.
	Compression bool

	// PingInterval is after how long a ping goes out if nothing came in. A peer
	// that is silent from one ping to the next is cut. If zero, 30 s.
	PingInterval time.Duration

	// WriteTimeout is how long the peer may take to accept one write before it
	// is cut. Each write has between half of it and all of it; it is of at most 64
	// KiB, and what is larger has several. It also bounds how long a Close may
	// take. If zero, 10 s; if it is turned off, a Close still takes 10 s at
	// most.
	WriteTimeout time.Duration

	// MaxAge is how long a connection lives at most, so that clients move on to
	// newer servers in time. It is closed with 1012 after 80 to 100 % of it, at
	// random. If zero, there is no limit.
	MaxAge time.Duration
}

const (
	defaultMaxMessage   = 32 << 10
	defaultPingInterval = 30 * time.Second
	defaultWriteTimeout = 10 * time.Second
)

// withDefaults returns options in which 0 means off, but for MaxMessage, where
// it is negative.
func (o Options) withDefaults() Options {
	if o.MaxMessage == 0 {
		o.MaxMessage = defaultMaxMessage
	}
	o.MaxMessage = max(o.MaxMessage, -1)
	o.MessageRate = max(o.MessageRate, 0)
	o.PingInterval = or(o.PingInterval, defaultPingInterval)
	o.WriteTimeout = or(o.WriteTimeout, defaultWriteTimeout)
	o.MaxAge = or(o.MaxAge, 0)
	return o
}

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

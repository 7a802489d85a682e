package ws

import (
	"math"
	"net/http"
	"time"
)

// Options are the limits of a WebSocket, and what its handshake offers. The zero
// Options are good defaults. A negative limit or duration turns off what the field is
// for.
type Options struct {
	// Subprotocols are those that the server speaks, in order of preference: the first
	// that the client offers is chosen. If empty, none is.
	Subprotocols []string

	// CheckOrigin decides whether the page that opens a connection may do so (RFC 6455
	// section 10.2): an error refuses the request with 403. If nil, a request passes
	// that a middleware.Origins has let pass. Without one it passes if it comes from a
	// page of its own host, or from no browser: without an Origin header, and not from
	// another origin according to Sec-Fetch-Site. The zero middleware.Origins decides
	// alike.
	CheckOrigin func(*http.Request) error

	// MaxMessage is how many bytes a message from the peer may have. A larger one
	// closes the connection with 1009. If zero, 32 KiB; if negative, there is no limit.
	MaxMessage int64

	// MessageRate is how many messages per second of a client a Handler handles, in
	// bursts of as many. More of them wait: up to MaxMessage bytes are read ahead, so
	// that control frames are answered, then the client's own sending has to wait. If
	// zero or negative, there is no limit. Upgrade and Dial do not use it.
	MessageRate float64

	// Compression agrees to permessage-deflate (RFC 7692), without context takeover.
	// Messages of 512 bytes or more are sent deflated if that makes them smaller; a
	// Handler deflates a message once for all its clients. MaxMessage counts the bytes
	// that a message inflates to.
	//
	// Do not compress messages that mix secrets with text that a client can choose (the
	// CRIME attack), nor what is compressed already.
	Compression bool

	// PingInterval is how long nothing may come in before a ping is sent. A peer that
	// sends nothing from one ping to the next is cut. If zero, 30 s; if negative, no
	// pings are sent, and a silent peer is not noticed.
	PingInterval time.Duration

	// WriteTimeout is how long the peer may take to accept one write before it is cut.
	// A write has at most 64 KiB; larger messages take several, each of which has
	// WriteTimeout. A write to a peer that was fast has up to three times as long: its
	// receive buffer is large, and accepts nothing until a part of it has been read.
	// WriteTimeout also bounds a Close. If zero, 10 s; if negative, writes have no
	// deadline, and a Close has 10 s.
	WriteTimeout time.Duration

	// MaxAge is the longest time for which a connection lives, so that clients move on
	// to newer servers. It is closed with 1012 after 80 to 100 % of that, at random. If
	// zero or negative, there is no limit.
	MaxAge time.Duration
}

const (
	defaultMaxMessage   = 32 << 10
	defaultPingInterval = 30 * time.Second
	defaultWriteTimeout = 10 * time.Second
)

// withDefaults returns options in which zero means off, except for MaxMessage, where -1
// does.
func (o Options) withDefaults() Options {
	if o.MaxMessage == 0 {
		o.MaxMessage = defaultMaxMessage
	}
	o.MaxMessage = max(o.MaxMessage, -1)
	if !(o.MessageRate > 0 && o.MessageRate <= math.MaxFloat64) { // neither NaN nor infinite
		o.MessageRate = 0
	}
	o.PingInterval = durationOr(o.PingInterval, defaultPingInterval)
	o.WriteTimeout = durationOr(o.WriteTimeout, defaultWriteTimeout)
	o.MaxAge = durationOr(o.MaxAge, 0)
	return o
}

// durationOr returns d, the preset if d is zero, or 0 if it is negative.
func durationOr(d, preset time.Duration) time.Duration {
	if d == 0 {
		return preset
	}
	return max(d, 0)
}

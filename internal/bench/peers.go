package main

import (
	"context"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// peer is a library that is measured.
type peer struct {
	name string
	wire string // the protocol of its clients: ws, sse, h2 (event streams over HTTP/2) or centrifuge

	// open returns a handler for subscribers, and a function that publishes to all of them.
	open func() (http.Handler, func(payload []byte))

	// program returns a program that serves in place of this one; nil: this one does.
	program func(wire string) ([]string, error)
}

// transports are what peers are compared over.
var transports = []string{"WebSocket", "Server-Sent Events", "Server-Sent Events over HTTP/2"}

func (p peer) transport() string {
	switch p.wire {
	case "sse":
		return transports[1]
	case "h2":
		return transports[2]
	}
	return transports[0]
}

var peers = []peer{
	{name: "bare write(2)", wire: "ws", open: bareWebSocket},
	{name: "fanfare, detached", wire: "ws", open: func() (http.Handler, func([]byte)) { return overWebSocket(detached) }},
	{name: "fanfare", wire: "ws", open: func() (http.Handler, func([]byte)) { return overWebSocket(attached) }},
	{name: "centrifuge", wire: "centrifuge", open: withCentrifuge},
	{name: "gws, Broadcaster", wire: "ws", open: withGWS},
	{name: "gorilla, PreparedMessage", wire: "ws", open: withGorilla},
	{name: "melody", wire: "ws", open: withMelody},
	{name: "coder/websocket, a channel each", wire: "ws", open: withCoder},

	{name: "bare write(2)", wire: "sse", open: bareSSE},
	{name: "fanfare, detached", wire: "sse", open: func() (http.Handler, func([]byte)) { return overSSE(detached) }},
	{name: "fanfare", wire: "sse", open: func() (http.Handler, func([]byte)) { return overSSE(attached) }},
	{name: "by hand on net/http", wire: "sse", open: byHand},
	{name: "tmaxmax/go-sse", wire: "sse", open: withTmaxmax},
	{name: "r3labs/sse", wire: "sse", open: withR3labs},

	{name: "write(2) in C", wire: "ws", program: floor},
	{name: "Bun", wire: "ws", program: bun},
	{name: "fanfare, detached, a Grant", wire: "ws", open: func() (http.Handler, func([]byte)) { return overWebSocket(granted) }},
	{name: "write(2) in C", wire: "sse", program: floor},
	{name: "Bun", wire: "sse", program: bun},
	{name: "fanfare, detached, a Grant", wire: "sse", open: func() (http.Handler, func([]byte)) { return overSSE(granted) }},

	{name: "fanfare, HTTP/2", wire: "h2", open: func() (http.Handler, func([]byte)) { return overSSE(attached) }},
	{name: "by hand on net/http, HTTP/2", wire: "h2", open: byHand},
}

// newHub returns a hub that keeps more than a burst has, so that no subscriber is overrun.
func newHub() *broadcast.Hub { return &broadcast.Hub{Keep: 4096} }

func publisher(hub *broadcast.Hub) func([]byte) {
	return func(payload []byte) {
		if _, err := hub.Publish(context.Background(), broadcast.Message{Topic: "a", Data: payload}); err != nil {
			panic(err)
		}
	}
}

// mode says whether a stream detaches from net/http once it is open, and what decides on it.
type mode int

const (
	attached mode = iota
	detached
	granted // detached, and a Grant decides on each
)

func overWebSocket(m mode) (http.Handler, func([]byte)) {
	hub := newHub()
	h := &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Encode: ws.Raw, Detach: m != attached}
	if m == granted {
		h.Topics, h.Grant = nil, grant
	}
	return h, publisher(hub)
}

func overSSE(m mode) (http.Handler, func([]byte)) {
	hub := newHub()
	h := &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Detach: m != attached}
	if m == granted {
		h.Topics, h.Grant = nil, grant
	}
	return h, publisher(hub)
}

func grant(*http.Request) (*fanfare.Grant, error) {
	return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(time.Hour)}, nil
}

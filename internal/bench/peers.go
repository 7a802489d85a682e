package main

import (
	"context"
	"net/http"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// peer is a library that is measured.
type peer struct {
	name string
	wire string // the protocol of its clients: ws, sse or centrifuge

	// open returns a handler for subscribers, and a function that publishes to all of them.
	open func() (http.Handler, func(payload []byte))
}

var peers = []peer{
	{"bare write(2)", "ws", bareWebSocket},
	{"fanfare, detached", "ws", func() (http.Handler, func([]byte)) { return overWebSocket(detached) }},
	{"fanfare", "ws", func() (http.Handler, func([]byte)) { return overWebSocket(attached) }},
	{"centrifuge", "centrifuge", withCentrifuge},
	{"gws, Broadcaster", "ws", withGWS},
	{"gorilla, PreparedMessage", "ws", withGorilla},
	{"melody", "ws", withMelody},
	{"coder/websocket, a channel each", "ws", withCoder},

	{"bare write(2)", "sse", bareSSE},
	{"fanfare, detached", "sse", func() (http.Handler, func([]byte)) { return overSSE(detached) }},
	{"fanfare", "sse", func() (http.Handler, func([]byte)) { return overSSE(attached) }},
	{"by hand on net/http", "sse", byHand},
	{"tmaxmax/go-sse", "sse", withTmaxmax},
	{"r3labs/sse", "sse", withR3labs},
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

// mode says whether a stream detaches from net/http once it is open.
type mode bool

const (
	attached mode = false
	detached mode = true
)

func overWebSocket(m mode) (http.Handler, func([]byte)) {
	hub := newHub()
	return &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Encode: ws.Raw, Detach: m == detached}, publisher(hub)
}

func overSSE(m mode) (http.Handler, func([]byte)) {
	hub := newHub()
	return &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Detach: m == detached}, publisher(hub)
}

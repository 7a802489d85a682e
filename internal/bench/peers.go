package main

import (
	"context"
	"net/http"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// peer is a library at work.
type peer struct {
	name string
	wire string // how a client speaks to it: ws, sse or centrifuge

	// open returns what serves subscribers, and what publishes to all of them.
	open func() (http.Handler, func(payload []byte))
}

var peers = []peer{
	{"bare write(2)", "ws", bareWebSocket},
	{"fanfare, detached", "ws", func() (http.Handler, func([]byte)) { return overWebSocket(true) }},
	{"fanfare", "ws", func() (http.Handler, func([]byte)) { return overWebSocket(false) }},
	{"centrifuge", "centrifuge", withCentrifuge},
	{"gws, Broadcaster", "ws", withGWS},
	{"gorilla, PreparedMessage", "ws", withGorilla},
	{"melody", "ws", withMelody},
	{"coder/websocket, a channel each", "ws", withCoder},

	{"bare write(2)", "sse", bareSSE},
	{"fanfare, detached", "sse", func() (http.Handler, func([]byte)) { return overSSE(true) }},
	{"fanfare", "sse", func() (http.Handler, func([]byte)) { return overSSE(false) }},
	{"by hand on net/http", "sse", byHand},
	{"tmaxmax/go-sse", "sse", withTmaxmax},
	{"r3labs/sse", "sse", withR3labs},
}

// newHub keeps more than a burst has: this is not a test of who is overrun.
func newHub() *broadcast.Hub { return &broadcast.Hub{Keep: 4096} }

func publisher(hub *broadcast.Hub) func([]byte) {
	return func(payload []byte) {
		if _, err := hub.Publish(context.Background(), broadcast.Message{Topic: "a", Data: payload}); err != nil {
			panic(err)
		}
	}
}

func overWebSocket(detach bool) (http.Handler, func([]byte)) {
	hub := newHub()
	return &ws.Handler{Broadcaster: hub, Topics: []string{"a"}, Encode: ws.Raw, Detach: detach}, publisher(hub)
}

func overSSE(detach bool) (http.Handler, func([]byte)) {
	hub := newHub()
	return &sse.Handler{Broadcaster: hub, Topics: []string{"a"}, Detach: detach}, publisher(hub)
}

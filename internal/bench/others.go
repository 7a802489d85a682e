package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/centrifugal/centrifuge"
	coder "github.com/coder/websocket"
	"github.com/gorilla/websocket"
	"github.com/lxzan/gws"
	"github.com/olahol/melody"
	r3labs "github.com/r3labs/sse/v2"
	tmaxmax "github.com/tmaxmax/go-sse"
)

// queue is how many messages may wait for one client in libraries with queues. It is more than
// a burst has, so that no library drops messages.
const queue = 512

// clients is the set of clients of a library whose user has to keep them.
type clients[T comparable] struct {
	mu  sync.Mutex // guards all; each keeps it, as programs with these libraries do
	all map[T]struct{}
}

func (c *clients[T]) add(client T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[T]struct{})
	}
	c.all[client] = struct{}{}
}

func (c *clients[T]) remove(client T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, client)
}

func (c *clients[T]) each(f func(T)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for client := range c.all {
		f(client)
	}
}

// withGorilla has a channel and a writing goroutine for each client, as is usual with it.
func withGorilla() (http.Handler, func([]byte)) {
	var all clients[chan *websocket.PreparedMessage]
	var upgrader websocket.Upgrader
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		out := make(chan *websocket.PreparedMessage, queue)
		all.add(out)
		go func() {
			for m := range out {
				if c.WritePreparedMessage(m) != nil {
					return
				}
			}
		}()
		for {
			if _, _, err := c.ReadMessage(); err != nil {
				break
			}
		}
		all.remove(out)
		c.Close()
	})
	return h, func(payload []byte) {
		m, err := websocket.NewPreparedMessage(websocket.TextMessage, payload)
		if err != nil {
			panic(err)
		}
		all.each(func(out chan *websocket.PreparedMessage) { out <- m })
	}
}

func withGWS() (http.Handler, func([]byte)) {
	var all clients[*gws.Conn]
	upgrader := gws.NewUpgrader(new(gws.BuiltinEventHandler), nil)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r)
		if err != nil {
			return
		}
		all.add(c)
		go func() {
			c.ReadLoop()
			all.remove(c)
		}()
	})
	return h, func(payload []byte) {
		b := gws.NewBroadcaster(gws.OpcodeText, payload)
		defer b.Close()
		all.each(func(c *gws.Conn) { _ = b.Broadcast(c) })
	}
}

func withMelody() (http.Handler, func([]byte)) {
	m := melody.New()
	m.Config.MessageBufferSize = queue
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = m.HandleRequest(w, r) })
	return h, func(payload []byte) { _ = m.Broadcast(payload) }
}

func withCoder() (http.Handler, func([]byte)) {
	var all clients[chan []byte]
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := coder.Accept(w, r, nil)
		if err != nil {
			return
		}
		ctx := c.CloseRead(context.Background())
		out := make(chan []byte, queue)
		all.add(out)
		defer all.remove(out)
		for {
			select {
			case m := <-out:
				if c.Write(ctx, coder.MessageText, m) != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return h, func(payload []byte) { all.each(func(out chan []byte) { out <- payload }) }
}

func withCentrifuge() (http.Handler, func([]byte)) {
	node, err := centrifuge.New(centrifuge.Config{ClientQueueMaxSize: 64 << 20})
	if err != nil {
		panic(err)
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{},
			Subscriptions: map[string]centrifuge.SubscribeOptions{"a": {}},
		}, nil
	})
	if err := node.Run(); err != nil {
		panic(err)
	}
	return centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}), func(payload []byte) {
		if _, err := node.Publish("a", fmt.Appendf(nil, "%q", payload)); err != nil {
			panic(err)
		}
	}
}

// byHand is the handler that most tutorials show.
func byHand() (http.Handler, func([]byte)) {
	var all clients[chan []byte]
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-cache")
		flusher := w.(http.Flusher)
		flusher.Flush()
		out := make(chan []byte, queue)
		all.add(out)
		defer all.remove(out)
		for {
			select {
			case m := <-out:
				if _, err := fmt.Fprintf(w, "data: %s\n\n", m); err != nil {
					return
				}
				flusher.Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	return h, func(payload []byte) { all.each(func(out chan []byte) { out <- payload }) }
}

func withTmaxmax() (http.Handler, func([]byte)) {
	s := &tmaxmax.Server{Logger: func(*http.Request) *slog.Logger { return slog.New(slog.DiscardHandler) }}
	return s, func(payload []byte) {
		m := &tmaxmax.Message{}
		m.AppendData(string(payload))
		if err := s.Publish(m); err != nil {
			panic(err)
		}
	}
}

func withR3labs() (http.Handler, func([]byte)) {
	s := r3labs.NewWithCallback(nil, nil)
	s.AutoReplay = false
	s.BufferSize = queue
	s.CreateStream("a")
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.RawQuery = "stream=a"
		s.ServeHTTP(w, r)
	})
	return h, func(payload []byte) { s.Publish("a", &r3labs.Event{Data: payload}) }
}

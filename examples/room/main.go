// Room is a small chat room that shows how to test streams. Its test runs the whole
// program in memory and in fake time: an hour takes a millisecond.
//
//	go run ./examples/room
//	go test ./examples/room
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

func main() {
	server := &http.Server{Addr: "localhost:8080", Handler: newRoom(), ConnContext: sse.ConnContext}
	fmt.Println("curl -N 'http://localhost:8080/events?name=ann'")
	fmt.Println("curl -d hello 'http://localhost:8080/say?name=bob'")
	log.Fatal(server.ListenAndServe())
}

// room sends every message to all of its clients, and when a name joins or leaves.
type room struct {
	hub broadcast.Hub // in memory, so that Publish does not wait

	// mu is locked while "joined" and "left" are published, so that they alternate.
	mu          sync.Mutex
	connections map[string]int // how many each name has; guarded by mu
}

// newRoom returns the room's routes: /events and /ws receive, /ws and /say send.
func newRoom() http.Handler {
	r := &room{hub: broadcast.Hub{Keep: 8}, connections: make(map[string]int)}
	mux := http.NewServeMux()
	mux.Handle("GET /events", &sse.Handler{Broadcaster: &r.hub, Grant: r.grant})
	mux.Handle("GET /ws", &ws.Handler{
		Broadcaster: &r.hub,
		Grant:       r.grant,
		Receive: func(req *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			name := req.FormValue("name")             // the request is valid only until Receive returns
			ctx := context.WithoutCancel(c.Context()) // a client may send a message and leave at once
			return func(_ ws.MessageType, text []byte) error { return r.publish(ctx, "said", name, string(text)) }
		},
		Options: ws.Options{PingInterval: 15 * time.Second},
	})
	mux.HandleFunc("POST /say", func(w http.ResponseWriter, req *http.Request) {
		text, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1000))
		if err == nil {
			err = r.publish(req.Context(), "said", req.URL.Query().Get("name"), string(text))
		}
		if err != nil {
			http.Error(w, "the text must have at most 1000 bytes", http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// grant admits clients that have a name, and counts their connections.
func (r *room) grant(req *http.Request) (*fanfare.Grant, error) {
	name := req.FormValue("name")
	if name == "" {
		return nil, &fanfare.Refusal{Status: http.StatusForbidden, Err: errors.New("no name")}
	}
	if err := r.enter(req.Context(), name); err != nil {
		return nil, err
	}
	context.AfterFunc(req.Context(), func() { r.leave(name) })
	return &fanfare.Grant{Topics: []string{"room"}}, nil
}

// enter counts a connection, and publishes that its name joins with the first one. A user
// has several with two open tabs, or after a lost connection until the server has noticed.
func (r *room) enter(ctx context.Context, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connections[name] == 0 {
		if err := r.publish(ctx, "joined", name, ""); err != nil {
			return err
		}
	}
	r.connections[name]++
	return nil
}

// leave is called when a connection has ended.
func (r *room) leave(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connections[name]--; r.connections[name] == 0 {
		delete(r.connections, name)
		_ = r.publish(context.Background(), "left", name, "") // the hub may be closed by then
	}
}

func (r *room) publish(ctx context.Context, typ, name, text string) error {
	_, err := r.hub.Publish(ctx, broadcast.Message{Topic: "room", Type: typ, From: name, Data: []byte(name + ": " + text)})
	return err
}

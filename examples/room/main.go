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

// room sends every message to all of its clients, and when a client joins or leaves.
type room struct{ hub broadcast.Hub }

// newRoom returns the room's routes: /events and /ws receive, /ws and /say send.
func newRoom() http.Handler {
	r := &room{hub: broadcast.Hub{Keep: 8}}
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

// grant admits clients that have a name, and publishes when they join and leave.
func (r *room) grant(req *http.Request) (*fanfare.Grant, error) {
	name := req.FormValue("name")
	if name == "" {
		return nil, &fanfare.Refusal{Status: http.StatusForbidden, Err: errors.New("no name")}
	}
	if err := r.publish(req.Context(), "joined", name, ""); err != nil {
		return nil, err
	}
	context.AfterFunc(req.Context(), func() {
		_ = r.publish(context.Background(), "left", name, "") // the hub may be closed by then
	})
	return &fanfare.Grant{Topics: []string{"room"}}, nil
}

func (r *room) publish(ctx context.Context, typ, name, text string) error {
	_, err := r.hub.Publish(ctx, broadcast.Message{Topic: "room", Type: typ, From: name, Data: []byte(name + ": " + text)})
	return err
}

// Room is one chat room, small enough to show how it is tested: its test runs the
// whole of it in memory and in fake time, an hour in a millisecond.
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

// room is where everybody hears everything, and who comes and goes.
type room struct{ hub broadcast.Hub }

// newRoom returns the room's routes: /events and /ws to listen, /ws and /say to
// speak.
func newRoom() http.Handler {
	r := &room{hub: broadcast.Hub{Keep: 8}}
	mux := http.NewServeMux()
	mux.Handle("GET /events", &sse.Handler{Broadcaster: &r.hub, Grant: r.grant})
	mux.Handle("GET /ws", &ws.Handler{
		Broadcaster: &r.hub,
		Grant:       r.grant,
		Receive: func(req *http.Request, c *ws.Conn) func(ws.MessageType, []byte) error {
			name := req.FormValue("name")             // the request is good only until Receive returns
			ctx := context.WithoutCancel(c.Context()) // whoever says something and leaves is heard
			return func(_ ws.MessageType, text []byte) error { return r.say(ctx, "said", name, string(text)) }
		},
		Options: ws.Options{PingInterval: 15 * time.Second},
	})
	mux.HandleFunc("POST /say", func(w http.ResponseWriter, req *http.Request) {
		text, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1000))
		if err == nil {
			err = r.say(req.Context(), "said", req.URL.Query().Get("name"), string(text))
		}
		if err != nil {
			http.Error(w, "a text of at most 1000 bytes is needed", http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// grant lets in whoever has a name. It tells the others, also when they leave.
func (r *room) grant(req *http.Request) (*fanfare.Grant, error) {
	name := req.FormValue("name")
	if name == "" {
		return nil, &fanfare.Refusal{Status: http.StatusForbidden, Err: errors.New("nobody comes in without a name")}
	}
	if err := r.say(req.Context(), "joined", name, ""); err != nil {
		return nil, err
	}
	context.AfterFunc(req.Context(), func() {
		_ = r.say(context.Background(), "left", name, "") // the hub may be closed by then
	})
	return &fanfare.Grant{Topics: []string{"room"}}, nil
}

func (r *room) say(ctx context.Context, what, name, text string) error {
	_, err := r.hub.Publish(ctx, broadcast.Message{Topic: "room", Type: what, From: name, Data: []byte(name + ": " + text)})
	return err
}

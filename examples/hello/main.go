// Hello sends the time each second, over Server-Sent Events and WebSockets.
package main

import (
	"context"
	"log"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

func main() {
	var hub broadcast.Hub
	http.Handle("GET /events", &sse.Handler{Broadcaster: &hub, Topics: []string{"time"}})
	http.Handle("GET /ws", &ws.Handler{Broadcaster: &hub, Topics: []string{"time"}})
	go func() {
		for now := range time.Tick(time.Second) {
			hub.Publish(context.Background(), broadcast.Message{Topic: "time", Data: now.AppendFormat(nil, time.TimeOnly)})
		}
	}()
	log.Fatal((&http.Server{Addr: "localhost:8080", ConnContext: sse.ConnContext}).ListenAndServe())
}

package redisjournal_test

import (
	"context"
	"log"
	"net/http"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
	"github.com/fanfare-go/fanfare/sse"
)

// Each server runs this program. A message that one of them publishes reaches the clients of
// all, and a client may reconnect to any of them.
func ExampleJournal() {
	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer client.Close()
	hub := &broadcast.Hub{Journal: &redisjournal.Journal{Client: client}}
	defer hub.Close()
	go hub.Run(context.Background())

	http.Handle("/prices", &sse.Handler{Broadcaster: hub, Topics: []string{"prices"}})
	log.Fatal(http.ListenAndServe(":8080", nil))
}

package main

import (
	"context"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/ws"
)

// topic is the topic of all clients.
const topic = "load"

// runServer runs one of the servers. A service needs no more than this to restart with only
// a short pause for its clients.
func runServer(ctx context.Context, addr, journal string, spread time.Duration) error {
	hub := &broadcast.Hub{Journal: newJournal(journal)}
	following, stopFollowing := context.WithCancel(context.Background())
	defer stopFollowing()
	go hub.Run(following)

	drain := &middleware.Drain{Delay: time.Second, Spread: spread}
	mux := http.NewServeMux()
	mux.Handle("GET /events", drain.Handler(&sse.Handler{
		Broadcaster: hub,
		Topics:      []string{topic},
		Options:     sse.Options{Retry: 500 * time.Millisecond},
	}))
	mux.Handle("GET /ws", drain.Handler(&ws.Handler{Broadcaster: hub, Topics: []string{topic}}))
	mux.HandleFunc("GET /ready", drain.Ready)

	listener, err := listen(addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ConnContext: sse.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(listener) }()
	select {
	case err := <-serving:
		return err
	case <-ctx.Done(): // SIGTERM
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := drain.Shutdown(ctx); err != nil {
		return err
	}
	return server.Shutdown(ctx)
}

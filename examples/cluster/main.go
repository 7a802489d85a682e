// Cluster runs three servers on one log, and a page that shows the clients of each. If you
// kill a server, its clients resume on the others and miss nothing.
//
//	cd examples/cluster && go run .                                   # with an embedded NATS server
//	cd examples/cluster && go run . -nats nats://localhost:4222
//	cd examples/cluster && go run . -redis redis://localhost:6379
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "the address to listen on")
	natsURL := flag.String("nats", "", "the URL of a NATS server with JetStream")
	redisURL := flag.String("redis", "", "the URL of a Redis server")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, *natsURL, *redisURL); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr, natsURL, redisURL string) error {
	engine, err := openEngine(natsURL, redisURL)
	if err != nil {
		return err
	}
	defer engine.close()
	c, err := newCluster(engine)
	if err != nil {
		return err
	}
	defer c.close()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("Three servers on %s, load balanced at http://%s\n", engine.name, listener.Addr())
	go c.count(ctx)
	front := &http.Server{Handler: c.front(), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = front.Close() })
	if err := front.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

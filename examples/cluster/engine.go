package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

// engine keeps the log.
type engine struct {
	name  string
	open  func() (j broadcast.Journal, stop func(), err error) // opens the connection of one server
	close func()
}

// openEngine returns the engine at a URL, or an embedded NATS server if both are empty.
func openEngine(natsURL, redisURL string) (*engine, error) {
	switch {
	case natsURL != "" && redisURL != "":
		return nil, errors.New("set -nats or -redis, not both")
	case redisURL != "":
		return onRedis(redisURL)
	case natsURL != "":
		return onNATS("NATS at "+natsURL, natsURL, func() {}), nil
	}
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		return nil, err
	}
	embedded, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true})
	if err != nil {
		return nil, err
	}
	embedded.Start()
	if !embedded.ReadyForConnections(10 * time.Second) {
		return nil, errors.New("the embedded NATS server does not start")
	}
	return onNATS("an embedded NATS server", embedded.ClientURL(), func() {
		embedded.Shutdown()
		embedded.WaitForShutdown()
		_ = os.RemoveAll(dir)
	}), nil
}

func onNATS(name, url string, stop func()) *engine {
	return &engine{name, func() (broadcast.Journal, func(), error) {
		conn, err := natsjournal.Connect(url)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", url, err)
		}
		return &natsjournal.Journal{Conn: conn, Stream: "cluster", MaxBytes: 64 << 20}, conn.Close, nil
	}, stop}
}

func onRedis(url string) (*engine, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return &engine{"Redis at " + options.Addr, func() (broadcast.Journal, func(), error) {
		client := redis.NewClient(options)
		return &redisjournal.Journal{Client: client, Key: "cluster"}, func() { _ = client.Close() }, nil
	}, func() {}}, nil
}

package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

// engine is what keeps the log.
type engine struct {
	name  string
	open  func() (j broadcast.Journal, stop func(), err error) // a server's connection
	close func()
}

// openEngine returns the one at a URL, or a NATS server in this process.
func openEngine(natsURL, redisURL string) (*engine, error) {
	switch {
	case natsURL != "" && redisURL != "":
		return nil, errors.New("one engine is enough: -nats or -redis")
	case redisURL != "":
		return onRedis(redisURL)
	case natsURL != "":
		return onNATS("NATS at "+natsURL, natsURL, func() {}), nil
	}
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		return nil, err
	}
	inside, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true})
	if err != nil {
		return nil, err
	}
	inside.Start()
	if !inside.ReadyForConnections(10 * time.Second) {
		return nil, errors.New("the NATS server inside does not start")
	}
	return onNATS("a NATS server inside", inside.ClientURL(), func() {
		inside.Shutdown()
		inside.WaitForShutdown()
		_ = os.RemoveAll(dir)
	}), nil
}

func onNATS(name, url string, stop func()) *engine {
	return &engine{name, func() (broadcast.Journal, func(), error) {
		conn, err := nats.Connect(url, nats.MaxReconnects(-1))
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

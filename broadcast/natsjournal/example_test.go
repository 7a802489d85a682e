package natsjournal_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

// Two servers share a log: a message that is published on one reaches the clients of both.
func Example() {
	url, stop := startNATS() // in production the server is already running
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	node := func() *broadcast.Hub {
		conn, err := natsjournal.Connect(url)
		if err != nil {
			panic(err)
		}
		context.AfterFunc(ctx, conn.Close)
		hub := &broadcast.Hub{Journal: &natsjournal.Journal{Conn: conn, MaxBytes: 16 << 20}}
		go hub.Run(ctx)
		return hub
	}
	here, there := node(), node()

	if _, err := here.Publish(ctx, broadcast.Message{Topic: "news", Data: []byte("hello")}); err != nil {
		panic(err)
	}
	// A client of the other server resumes at an unknown position and gets all that is kept.
	for m, err := range broadcast.Messages(ctx, there, broadcast.SubscribeOptions{Topics: []string{"news"}, After: broadcast.MakeID(1, 0)}) {
		if err != nil {
			continue // a gap: there may have been more
		}
		fmt.Println(string(m.Data))
		break
	}
	// Output: hello
}

func startNATS() (url string, stop func()) {
	dir, err := os.MkdirTemp("", "natsjournal")
	if err != nil {
		panic(err)
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
	})
	if err != nil {
		panic(err)
	}
	s.Start()
	s.ReadyForConnections(10 * time.Second)
	return s.ClientURL(), func() {
		s.Shutdown()
		s.WaitForShutdown()
		os.RemoveAll(dir)
	}
}

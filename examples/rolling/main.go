// Rolling restarts two servers of one service, one after the other, under a load of
// clients on both transports, and counts what they lose: nothing.
//
// It starts everything itself: a process for the log that the servers share, the two
// servers, a reverse proxy before them, and the clients. A server that gets SIGTERM
// says that it is not ready any more, ends its streams one after the other, and exits;
// its clients come back through the proxy, on the other server, with the last ID they
// saw. It ends by itself, with a table.
//
//	go run ./examples/rolling
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var s scenario
	flag.IntVar(&s.clients, "clients", 300, "clients of each transport")
	flag.IntVar(&s.restarts, "restarts", 3, "how many restarts")
	flag.DurationVar(&s.spread, "spread", 5*time.Second, "over how long a server ends its streams")
	flag.IntVar(&s.rate, "rate", 10, "messages a second")
	role := flag.String("role", "", "what this process is: journal, server, or, if empty, what starts the others")
	addr := flag.String("addr", "", "where this process listens")
	journal := flag.String("journal", "", "where the journal listens")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	slog.SetLogLoggerLevel(slog.LevelWarn)
	var err error
	switch *role {
	case "journal":
		err = runJournal(ctx, *addr)
	case "server":
		err = runServer(ctx, *addr, *journal, s.spread)
	default:
		err = s.run(ctx)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

// scenario is one run: who comes, and what happens to them.
type scenario struct {
	clients, restarts, rate int
	spread                  time.Duration
}

func (s scenario) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	journal, err := start(ctx, "journal", "")
	if err != nil {
		return err
	}
	defer journal.kill()
	servers := make([]*process, 2)
	for i := range servers {
		if servers[i], err = start(ctx, "server", "", "-journal", journal.url(), "-spread", s.spread.String()); err != nil {
			return err
		}
		defer func() { servers[i].kill() }()
	}
	proxy, err := startProxy(ctx, servers)
	if err != nil {
		return err
	}
	fmt.Printf("a proxy on %s before servers on %s and %s\n", proxy.url, servers[0].addr, servers[1].addr)

	load, err := startLoad(ctx, proxy.url, journal.url(), s)
	if err != nil {
		return err
	}
	fmt.Printf("%d clients on Server-Sent Events, %d on WebSockets, %d messages a second\n", s.clients, s.clients, s.rate)
	for i := range s.restarts {
		old := servers[i%2]
		began := time.Now()
		load.restarts = append(load.restarts, began)
		if err := old.terminate(ctx); err != nil {
			return err
		}
		fmt.Printf("the server on %s has moved its clients and exited after %v\n", old.addr, time.Since(began).Round(100*time.Millisecond))
		anew, err := start(ctx, "server", old.addr, "-journal", journal.url(), "-spread", s.spread.String())
		if err != nil {
			return err
		}
		servers[i%2] = anew
		if err := proxy.waitFor(ctx, old.addr); err != nil {
			return err
		}
	}
	if err := load.finish(ctx); err != nil {
		return err
	}
	return load.report(os.Stdout)
}

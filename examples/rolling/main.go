// Rolling restarts two servers of one service, one after the other, under the load of
// clients on both transports, and shows that these lose no message.
//
// It starts everything itself: a process for the log that the servers share, the two
// servers, a reverse proxy in front of them, and the clients. A server that gets SIGTERM
// reports that it is not ready, ends its streams one after the other, and exits. Its
// clients reconnect through the proxy to the other server, with the last ID that they
// saw. At the end, it prints a table of the results.
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
	flag.IntVar(&s.clients, "clients", 300, "clients on each transport")
	flag.IntVar(&s.restarts, "restarts", 3, "number of restarts")
	flag.DurationVar(&s.spread, "spread", 5*time.Second, "time in which a server ends its streams")
	flag.IntVar(&s.rate, "rate", 10, "messages a second")
	role := flag.String("role", "", "role of this process: journal or server; empty for the process that starts the others")
	addr := flag.String("addr", "", "address that this process listens on")
	journal := flag.String("journal", "", "URL of the journal")
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

// scenario holds the settings of a run.
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
	fmt.Printf("proxy on %s, servers on %s and %s\n", proxy.url, servers[0].addr, servers[1].addr)

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
		fmt.Printf("the server on %s ended its streams and exited in %v\n", old.addr, time.Since(began).Round(100*time.Millisecond))
		restarted, err := start(ctx, "server", old.addr, "-journal", journal.url(), "-spread", s.spread.String())
		if err != nil {
			return err
		}
		servers[i%2] = restarted
		if err := proxy.waitFor(ctx, old.addr); err != nil {
			return err
		}
	}
	if err := load.finish(ctx); err != nil {
		return err
	}
	return load.report(os.Stdout)
}

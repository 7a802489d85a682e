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
//
// With -page it serves a page instead, which shows the clients and restarts the servers on a
// button:
//
//	go run ./examples/rolling -page localhost:8080
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
	page := flag.String("page", "", "address of a page that shows the clients; if empty, a table of the results is printed")
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
		if *page == "" {
			err = s.run(ctx)
			break
		}
		err = s.show(ctx, *page)
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

// site is all that runs: the journal, the servers, the proxy and the load.
type site struct {
	scenario
	journal *process
	servers []*process
	proxy   *proxy
	load    *load
}

// open starts all. The caller closes the site.
func (s scenario) open(ctx context.Context) (o *site, err error) {
	o = &site{scenario: s}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	if o.journal, err = start(ctx, "journal", ""); err != nil {
		return nil, err
	}
	for range 2 {
		server, err := o.server(ctx, "")
		if err != nil {
			return nil, err
		}
		o.servers = append(o.servers, server)
	}
	if o.proxy, err = startProxy(ctx, o.servers); err != nil {
		return nil, err
	}
	fmt.Printf("proxy on %s, servers on %s and %s\n", o.proxy.url, o.servers[0].addr, o.servers[1].addr)
	if o.load, err = startLoad(ctx, o.proxy, o.journal.url(), s); err != nil {
		return nil, err
	}
	fmt.Printf("%d clients on Server-Sent Events, %d on WebSockets, %d messages a second\n", s.clients, s.clients, s.rate)
	return o, nil
}

// close kills the processes.
func (o *site) close() {
	if o.journal != nil {
		o.journal.kill()
	}
	for _, server := range o.servers {
		server.kill()
	}
}

func (o *site) server(ctx context.Context, addr string) (*process, error) {
	return start(ctx, "server", addr, "-journal", o.journal.url(), "-spread", o.spread.String())
}

// restart restarts a server, and reports what it does.
func (o *site) restart(ctx context.Context, i int, report func(state string)) error {
	old := o.servers[i]
	began := time.Now()
	report("ends its streams")
	if err := old.terminate(ctx); err != nil {
		return err
	}
	fmt.Printf("the server on %s ended its streams and exited in %v\n", old.addr, time.Since(began).Round(100*time.Millisecond))
	report("starts")
	restarted, err := o.server(ctx, old.addr)
	if err != nil {
		return err
	}
	o.servers[i] = restarted
	if err := o.proxy.waitFor(ctx, old.addr); err != nil {
		return err
	}
	report("ready")
	return nil
}

func (s scenario) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer o.close()
	for i := range s.restarts {
		o.load.restarts = append(o.load.restarts, time.Now())
		if err := o.restart(ctx, i%2, func(string) {}); err != nil {
			return err
		}
	}
	if err := o.load.finish(ctx); err != nil {
		return err
	}
	return o.load.report(os.Stdout)
}

package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// suite is the work that each peer does: messages to subscribers, and idle connections.
type suite struct {
	subscribers, burst, size int
	steady, rate             int
	idle                     int
	rounds                   int
	only                     string
}

// figures are the results of a peer in one round.
type figures struct {
	cold      float64       // deliveries per second of the first burst
	coldCPU   time.Duration // CPU time of the server per delivery of that
	burst     float64       // deliveries per second of the third burst
	burstCPU  time.Duration // CPU time of the server per delivery
	allocs    float64       // allocations per delivery of the burst
	steadyCPU time.Duration // CPU time of the server per delivery at the steady rate
	userCPU   time.Duration // the user time of that
	p50, p99  time.Duration // from publishing to arrival, at the steady rate
	live      float64       // bytes of heap and stack per idle connection
	rss       float64       // resident bytes per idle connection
	lost      int           // deliveries
}

func (s suite) run(out io.Writer, chart string) error {
	results := make([][]figures, len(peers))
	for round := range s.rounds {
		for i, p := range peers {
			if !strings.Contains(p.name, s.only) || p.isMissing() {
				continue
			}
			fmt.Fprintf(os.Stderr, "round %d of %d: %s, %s\n", round+1, s.rounds, p.wire, p.name)
			f, err := s.measure(i)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", p.wire, p.name, err)
			}
			results[i] = append(results[i], f)
		}
	}
	s.report(out, results)
	if chart != "" {
		return os.WriteFile(chart, []byte(draw(results)), 0o644)
	}
	return nil
}

// measure measures a peer, in processes of its own.
func (s suite) measure(i int) (f figures, err error) {
	if err := s.fanOut(i, &f); err != nil {
		return f, err
	}
	return f, s.idling(i, &f)
}

func (s suite) fanOut(i int, f *figures) error {
	server, addr, err := start("0", "-serve", strconv.Itoa(i))
	if err != nil {
		return err
	}
	defer server.end()
	receiver, _, err := start("1", "-receive", addr, "-wire", peers[i].wire, "-conns", strconv.Itoa(s.subscribers))
	if err != nil {
		return err
	}
	defer receiver.end()
	work := func(o order) (began int64, used usage, t tally, err error) {
		time.Sleep(settle)
		before, err := server.do(order{})
		if err != nil {
			return
		}
		expect := o.Publish * s.subscribers
		if err = receiver.send(strconv.Itoa(expect)); err != nil {
			return
		}
		u, err := server.do(o)
		if err != nil {
			return
		}
		if err = receiver.read(&t); err != nil {
			return
		}
		f.lost += expect - t.Deliveries
		after, err := server.do(order{})
		used = usage{CPU: after.CPU - before.CPU, User: after.User - before.User, Mallocs: after.Mallocs - before.Mallocs}
		return u.Began, used, t, err
	}
	began, used, t, err := work(order{Publish: s.burst, Size: s.size})
	if err != nil {
		return err
	}
	n := max(1, t.Deliveries)
	f.cold = float64(n) / time.Duration(t.Last-began).Seconds()
	f.coldCPU = used.CPU / time.Duration(n)
	if _, _, _, err := work(order{Publish: s.burst, Size: s.size}); err != nil {
		return err
	}
	if began, used, t, err = work(order{Publish: s.burst, Size: s.size}); err != nil {
		return err
	}
	n = max(1, t.Deliveries)
	f.burst = float64(n) / time.Duration(t.Last-began).Seconds()
	f.burstCPU = used.CPU / time.Duration(n)
	f.allocs = float64(used.Mallocs) / float64(n)
	_, used, t, err = work(order{Publish: s.steady, Size: s.size, Every: time.Second / time.Duration(s.rate)})
	if err != nil {
		return err
	}
	n = max(1, t.Deliveries)
	f.steadyCPU, f.userCPU, f.p50, f.p99 = used.CPU/time.Duration(n), used.User/time.Duration(n), t.P50, t.P99
	return nil
}

// idling measures idle connections.
func (s suite) idling(i int, f *figures) error {
	server, addr, err := start("0", "-serve", strconv.Itoa(i))
	if err != nil {
		return err
	}
	defer server.end()
	before, err := server.do(order{})
	if err != nil {
		return err
	}
	receiver, _, err := start("1", "-receive", addr, "-wire", peers[i].wire, "-conns", strconv.Itoa(s.idle))
	if err != nil {
		return err
	}
	defer receiver.end()
	time.Sleep(2 * settle)
	after, err := server.do(order{})
	if err != nil {
		return err
	}
	f.live = float64(after.Live-before.Live) / float64(s.idle)
	f.rss = float64(after.RSS-before.RSS) / float64(s.idle)
	return nil
}

// median returns the median of a figure and its range.
func median(all []figures, of func(figures) float64) (m, least, most float64) {
	values := make([]float64, len(all))
	for i, f := range all {
		values[i] = of(f)
	}
	slices.Sort(values)
	m = (values[len(values)/2] + values[(len(values)-1)/2]) / 2
	return m, values[0], values[len(values)-1]
}

func (s suite) report(out io.Writer, results [][]figures) {
	cpu := "unknown"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	fmt.Fprintf(out, "%s, %s/%s, %s; the server on one processor, the receiver on another.\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, cpu)
	fmt.Fprintf(out, "Burst: %d messages of %d bytes to %d subscribers. Steady: %d messages a second to as many. Idle: %d connections. Medians of %d rounds, with ranges.\n",
		s.burst, s.size, s.subscribers, s.rate, s.idle, s.rounds)
	for _, transport := range transports {
		fmt.Fprintf(out, "\n| %s | first burst, M deliveries/s | CPU each, us | warm burst, M deliveries/s | CPU each, us | allocations each | steady, CPU each, us | of it user | p50, ms | p99, ms | idle, heap and stack, KB | resident, KB | lost |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n", transport)
		for i, p := range peers {
			all := results[i]
			if len(all) == 0 || p.transport() != transport {
				continue
			}
			cell := func(format string, of func(figures) float64) string {
				m, least, most := median(all, of)
				if len(all) == 1 {
					return fmt.Sprintf(format, m)
				}
				return fmt.Sprintf(format+" ("+format+" to "+format+")", m, least, most)
			}
			lost := 0
			for _, f := range all {
				lost += f.lost
			}
			us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
			fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %d |\n", p.name,
				cell("%.2f", func(f figures) float64 { return f.cold / 1e6 }),
				cell("%.2f", func(f figures) float64 { return us(f.coldCPU) }),
				cell("%.2f", func(f figures) float64 { return f.burst / 1e6 }),
				cell("%.2f", func(f figures) float64 { return us(f.burstCPU) }),
				cell("%.2f", func(f figures) float64 { return f.allocs }),
				cell("%.2f", func(f figures) float64 { return us(f.steadyCPU) }),
				cell("%.2f", func(f figures) float64 { return us(f.userCPU) }),
				cell("%.1f", func(f figures) float64 { return us(f.p50) / 1000 }),
				cell("%.1f", func(f figures) float64 { return us(f.p99) / 1000 }),
				cell("%.1f", func(f figures) float64 { return f.live / 1024 }),
				cell("%.1f", func(f figures) float64 { return f.rss / 1024 }), lost)
		}
	}
}

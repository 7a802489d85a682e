package endtoend_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// phone is where clients are: in a network namespace of its own, which a pair of veth
// devices joins to the server's.
type phone struct {
	n       int // of its network, 10.0.n.0/24
	host    int // of its address in that
	rng     *rand.Rand
	work    chan func()                // for the thread that is in the namespace
	over    chan struct{}              // closed when nothing is left for it
	streams []func() []context.Context // that each of its clients has at the server
	within  time.Duration              // in which the server has to find out that the phone is out of reach
	missed  time.Duration              // after which it had, at most
}

// newPhone joins a phone to the server, with the first address of its network. end lets
// go of its namespace.
func newPhone(n int, rng *rand.Rand) (*phone, error) {
	p := &phone{n: n, host: 2, rng: rng, work: make(chan func()), over: make(chan struct{})}
	err := p.enter()
	if err == nil {
		err = errors.Join(
			command("ip", "address", "add", p.address(1)+"/24", "dev", p.device()),
			command("ip", "link", "set", p.device(), "up"),
			p.command("ip", "link", "set", "phone", "up"),
			p.command("ip", "address", "add", p.address(p.host)+"/24", "dev", "phone"),
		)
	}
	if err != nil {
		p.end()
	}
	return p, err
}

var errNoLink = errors.New("no link between network namespaces")

// enter makes the namespace, which is that of one thread, and the link to it.
func (p *phone) enter() error {
	entered, thread := make(chan error), 0
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		thread = syscall.Gettid()
		entered <- err
		for {
			select {
			case f := <-p.work:
				f()
			case <-p.over:
				return
			}
		}
	}()
	err := <-entered
	if err == nil {
		err = command("ip", "link", "add", p.device(), "type", "veth", "peer", "name", "phone", "netns", fmt.Sprint(thread))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoLink, err)
	}
	return nil
}

func (p *phone) end() { close(p.over) }

// device is the server's end of the link.
func (p *phone) device() string { return fmt.Sprintf("phone%d", p.n) }

func (p *phone) address(host int) string { return fmt.Sprintf("10.0.%d.%d", p.n, host) }

// do calls f in the phone's namespace.
func (p *phone) do(f func() error) error {
	done := make(chan error, 1)
	select {
	case p.work <- func() { done <- f() }:
		return <-done
	case <-p.over:
		return net.ErrClosed
	}
}

// dial is an http.Transport's: a socket stays in the namespace that it was made in.
func (p *phone) dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	dialer := net.Dialer{Timeout: time.Second}
	err = p.do(func() (err error) {
		c, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

func (p *phone) command(name string, args ...string) error {
	return p.do(func() error { return command(name, args...) })
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// pause waits for a time between half of most and all of it.
func (p *phone) pause(most time.Duration) {
	<-time.NewTimer(most - time.Duration(p.rng.Int64N(int64(most/2)))).C
}

var phoneFaults = []fault[*phone]{
	{"out of reach", (*phone).leave},
	{"another address", (*phone).move},
	{"flapping", (*phone).flap},
	{"trickle", (*phone).trickle},
}

// leave takes the phone out of reach, until the server has found out.
func (p *phone) leave() error {
	return errors.Join(p.isMissed(func() error { return p.command("ip", "link", "set", "phone", "down") }),
		p.command("ip", "link", "set", "phone", "up"))
}

// move gives the phone another address, as another network does.
func (p *phone) move() error {
	return p.isMissed(func() error {
		err := p.command("ip", "address", "del", p.address(p.host)+"/24", "dev", "phone")
		p.host++
		return errors.Join(err, p.command("ip", "address", "add", p.address(p.host)+"/24", "dev", "phone"))
	})
}

// online reports whether each client has a stream.
func (p *phone) online() bool {
	return !slices.ContainsFunc(p.streams, func(streams func() []context.Context) bool { return len(streams()) == 0 })
}

// isMissed waits until the server has ended the streams that it had when the phone went.
func (p *phone) isMissed(goes func() error) error {
	var had []context.Context
	for _, streams := range p.streams {
		had = append(had, streams()...)
	}
	if err := goes(); err != nil {
		return err
	}
	gone := time.Now()
	tooLong := time.NewTimer(p.within)
	defer tooLong.Stop()
	for _, stream := range had {
		select {
		case <-stream.Done():
			p.missed = max(p.missed, time.Since(gone))
		case <-tooLong.C:
			return fmt.Errorf("the phone has been out of reach for %v, and the server still has its stream", p.within)
		}
	}
	return nil
}

// flap takes the link down for moments that connections get over.
func (p *phone) flap() error {
	for range 3 {
		if err := p.command("ip", "link", "set", "phone", "down"); err != nil {
			return err
		}
		p.pause(200 * time.Millisecond)
		if err := p.command("ip", "link", "set", "phone", "up"); err != nil {
			return err
		}
		p.pause(200 * time.Millisecond)
	}
	return nil
}

// trickle lets less through than is published.
func (p *phone) trickle() error {
	if err := p.limit(2 + p.rng.IntN(18)); err != nil {
		return err
	}
	p.pause(1500 * time.Millisecond)
	return p.unlimit()
}

// limit lets as many kilobits a second through to the phone.
func (p *phone) limit(rate int) error {
	return command("tc", "qdisc", "add", "dev", p.device(), "root", "tbf", "rate", fmt.Sprintf("%dkbit", rate), "burst", "1600", "limit", "3000")
}

func (p *phone) unlimit() error { return command("tc", "qdisc", "del", "dev", p.device(), "root") }

// mayTrickle says why links cannot: the kernel, or tc, may lack what it takes.
func (p *phone) mayTrickle() error {
	if err := p.limit(1000); err != nil {
		return err
	}
	return p.unlimit()
}

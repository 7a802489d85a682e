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

// phone is a network namespace with clients in it. A pair of veth devices connects it to
// the server's.
type phone struct {
	n       int // its network is 10.0.n.0/24
	host    int // its address is 10.0.n.host
	rng     *rand.Rand
	work    chan func()                // for the thread that is in the namespace
	ended   chan struct{}              // closed by end; the thread exits
	streams []func() []context.Context // each client's streams at the server
	within  time.Duration              // the server must notice within it that the phone is out of reach
	missed  time.Duration              // the longest that the server took to notice
}

// newPhone connects a phone to the server. The caller calls end, which releases its
// namespace.
func newPhone(n int, rng *rand.Rand) (*phone, error) {
	p := &phone{n: n, host: 2, rng: rng, work: make(chan func()), ended: make(chan struct{})}
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

// enter makes the namespace, which one thread is in, and the link to it.
func (p *phone) enter() error {
	entered, thread := make(chan error), 0
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread ends with the goroutine
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		thread = syscall.Gettid()
		entered <- err
		for {
			select {
			case f := <-p.work:
				f()
			case <-p.ended:
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

// end releases the namespace.
func (p *phone) end() { close(p.ended) }

// device is the server's end of the link.
func (p *phone) device() string { return fmt.Sprintf("phone%d", p.n) }

func (p *phone) address(host int) string { return fmt.Sprintf("10.0.%d.%d", p.n, host) }

// do calls f in the phone's namespace.
func (p *phone) do(f func() error) error {
	done := make(chan error, 1)
	select {
	case p.work <- func() { done <- f() }:
		return <-done
	case <-p.ended:
		return net.ErrClosed
	}
}

// dial is an http.Transport's DialContext. A socket stays in the namespace that it was made
// in.
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

// pause waits between half of most and all of it.
func (p *phone) pause(most time.Duration) {
	<-time.NewTimer(most - time.Duration(p.rng.Int64N(int64(most/2)))).C
}

var phoneFaults = []fault[*phone]{
	{"out of reach", (*phone).leave},
	{"another address", (*phone).move},
	{"flapping", (*phone).flap},
	{"trickle", (*phone).trickle},
}

// leave takes the phone out of reach until the server has noticed.
func (p *phone) leave() error {
	return errors.Join(p.isMissed(func() error { return p.command("ip", "link", "set", "phone", "down") }),
		p.command("ip", "link", "set", "phone", "up"))
}

// move gives the phone another address, like a change of networks.
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

// isMissed waits until the server has ended the streams that it had when the phone became
// unreachable by goes.
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
			return fmt.Errorf("the server still has a stream of a phone that has been out of reach for %v", p.within)
		}
	}
	return nil
}

// flap takes the link down for moments that connections survive.
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

// trickle slows the link down to less than is published.
func (p *phone) trickle() error {
	if err := p.limit(2 + p.rng.IntN(18)); err != nil {
		return err
	}
	p.pause(1500 * time.Millisecond)
	return p.unlimit()
}

// limit bounds the link to the phone to rate kilobits a second.
func (p *phone) limit(rate int) error {
	return command("tc", "qdisc", "add", "dev", p.device(), "root", "tbf", "rate", fmt.Sprintf("%dkbit", rate), "burst", "1600", "limit", "3000")
}

func (p *phone) unlimit() error { return command("tc", "qdisc", "del", "dev", p.device(), "root") }

// mayTrickle returns an error if the kernel or tc cannot limit a link.
func (p *phone) mayTrickle() error {
	if err := p.limit(1000); err != nil {
		return err
	}
	return p.unlimit()
}

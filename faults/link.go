package faults

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/fanfare-go/fanfare/internal/memnet"
)

// Link is the way between a client and a server, in memory. The zero value is a
// fast one without faults. Its fields are set before its first use; its methods
// may be called at any time, and hold for all connections over it, also for
// those that come later.
type Link struct {
	// BytesPerSecond is how fast bytes arrive over each connection, in each
	// direction. If zero, at once.
	BytesPerSecond int

	// Buffer is how many bytes may be on the way in each direction, before a
	// write has to wait for the other side to read. If zero, 64 KiB.
	Buffer int

	mu       sync.Mutex
	cond     sync.Cond // signalled whenever something below, or in a flow, changes
	stalled  bool
	vanished bool
	cutting  bool // after left more bytes from the server
	left     int
	open     map[*end]struct{}
}

// Via returns r, to be made over the link by ssetest.Connect, wstest.Dial and
// their kind.
func Via(r *http.Request, l *Link) *http.Request {
	return r.WithContext(memnet.WithNetwork(r.Context(), l))
}

// Stall lets the client stop reading: what the server sends fills the Buffer, and
// then waits.
func (l *Link) Stall() {
	l.change(func() { l.stalled = true })
}

// Vanish lets each side be gone for the other without a word, as a phone is that
// lost its network: nothing arrives any more, no end of the connection either.
// What is sent fills the Buffer as if nothing had happened. The connections that
// are open now stay so for good.
//
// As over TCP on Linux, a connection with a TCP_USER_TIMEOUT, which streams set
// where they can, ends once something has waited that long to arrive.
func (l *Link) Vanish() {
	l.change(func() {
		l.vanished = true
		for e := range l.open {
			e.vanish()
		}
	})
}

// Resume ends what Stall and Vanish began. Connections that had vanished remain
// so; new ones work.
func (l *Link) Resume() {
	l.change(func() { l.stalled, l.vanished = false, false })
}

// Cut resets the open connections: whatever is on the way is lost, and both sides
// get an error.
func (l *Link) Cut() { l.change(l.cut) }

// CutAfter cuts once n more bytes from the server have arrived, which may be in
// the middle of an event or a frame.
func (l *Link) CutAfter(n int) {
	l.change(func() {
		if l.cutting, l.left = n > 0, n; n <= 0 {
			l.cut()
		}
	})
}

// wake takes the lock, so that it cannot come between somebody's look and their
// Wait.
func (l *Link) wake() { l.change(func() {}) }

func (l *Link) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cond.L = &l.mu
	f()
	l.cond.Broadcast()
}

func (l *Link) cut() {
	l.cutting = false
	for e := range l.open {
		if !e.apart { // no reset gets there either
			e.err = syscall.ECONNRESET
		}
	}
}

// Pipe returns the two ends of a connection over the link. Both have deadlines,
// as those of TCP have.
func (l *Link) Pipe() (client, server net.Conn) {
	c, s := &end{link: l, client: true}, &end{link: l}
	c.peer, s.peer = s, c
	l.change(func() {
		if l.open == nil {
			l.open = make(map[*end]struct{})
		}
		for _, e := range []*end{c, s} {
			l.open[e] = struct{}{}
			if l.vanished {
				e.vanish()
			}
		}
	})
	return c, s
}

// end is one end of a connection. Link.mu guards it.
type end struct {
	link   *Link
	peer   *end
	client bool

	out     flow  // what was written here and not yet read there
	closed  bool  // by its own side
	err     error // the connection is gone
	apart   bool  // the peer has vanished
	writing bool  // a Write is under way
	read    deadline
	write   deadline
	unacked *time.Timer
	timeout time.Duration // of unacked
}

// flow is what is on the way in one direction.
type flow struct {
	bytes   []byte
	arrived int       // how many of them have got there
	at      time.Time // when that was counted
}

// count lets bytes arrive, and returns how long it takes until more have.
func (f *flow) count(perSecond int) time.Duration {
	now := time.Now()
	if perSecond <= 0 || f.arrived == len(f.bytes) {
		f.arrived, f.at = len(f.bytes), now
		return 0
	}
	if came := int(now.Sub(f.at).Seconds() * float64(perSecond)); came > 0 {
		f.arrived = min(f.arrived+came, len(f.bytes))
		f.at = f.at.Add(time.Duration(float64(came) / float64(perSecond) * float64(time.Second)))
	}
	some := min(len(f.bytes)-f.arrived, max(1, perSecond/10))
	return max(time.Nanosecond, time.Duration(float64(some)/float64(perSecond)*float64(time.Second))-now.Sub(f.at))
}

func (e *end) Read(p []byte) (int, error) {
	l := e.link
	l.mu.Lock()
	defer l.mu.Unlock()
	in := &e.peer.out
	for {
		// A peer that has vanished sends nothing, not even its end.
		rest := time.Duration(0)
		if !e.apart {
			rest = in.count(l.BytesPerSecond)
		}
		ready := !e.apart && !(e.client && l.stalled) && in.arrived > 0
		switch {
		case e.closed:
			return 0, net.ErrClosed
		case e.read.passed():
			return 0, os.ErrDeadlineExceeded
		case e.err != nil:
			return 0, e.fails("read", e.err)
		case len(p) == 0:
			return 0, nil
		case ready:
			return e.take(p), nil
		case !e.apart && e.peer.closed && len(in.bytes) == 0:
			return 0, io.EOF
		}
		if rest > 0 {
			timer := time.AfterFunc(rest, l.wake)
			l.cond.Wait()
			timer.Stop()
			continue
		}
		l.cond.Wait()
	}
}

// take moves what has arrived into p, up to where the link is to be cut.
func (e *end) take(p []byte) int {
	in, l := &e.peer.out, e.link
	n := min(len(p), in.arrived)
	if e.client && l.cutting {
		n = min(n, l.left)
		l.left -= n
	}
	copy(p, in.bytes[:n])
	in.bytes = append(in.bytes[:0], in.bytes[n:]...)
	in.arrived -= n
	if e.client && l.cutting && l.left == 0 {
		l.cut()
	}
	l.cond.Broadcast()
	return n
}

func (e *end) Write(p []byte) (n int, err error) {
	l := e.link
	l.mu.Lock()
	defer l.mu.Unlock()
	most := l.Buffer
	if most <= 0 {
		most = 64 << 10
	}
	mine := false // of concurrent Writes one goes out after the other
	defer func() {
		if mine {
			e.writing = false
			l.cond.Broadcast()
		}
	}()
	for {
		switch {
		case e.closed:
			return n, net.ErrClosed
		case e.write.passed():
			return n, os.ErrDeadlineExceeded
		case e.err != nil:
			return n, e.fails("write", e.err)
		case e.peer.closed && !e.apart:
			return n, e.fails("write", syscall.EPIPE) // what the peer had sent can still be read
		case !mine && e.writing:
			l.cond.Wait()
			continue
		}
		mine, e.writing = true, true
		if room := min(most-len(e.out.bytes), len(p)-n); room > 0 {
			e.out.count(l.BytesPerSecond)
			e.out.bytes = append(e.out.bytes, p[n:n+room]...)
			n += room
			e.waitForAck()
			l.cond.Broadcast()
		}
		if n == len(p) {
			return n, nil
		}
		l.cond.Wait()
	}
}

func (e *end) fails(op string, err error) error {
	return &net.OpError{Op: op, Net: "memory", Source: e.LocalAddr(), Addr: e.RemoteAddr(), Err: err}
}

func (e *end) vanish() {
	e.apart = true
	e.waitForAck()
}

// waitForAck ends the connection if what it has sent does not arrive in time.
func (e *end) waitForAck() {
	if !e.apart || e.unacked != nil || e.timeout <= 0 || len(e.out.bytes) == 0 {
		return
	}
	e.unacked = time.AfterFunc(e.timeout, func() {
		e.link.change(func() { e.err = syscall.ETIMEDOUT })
	})
}

// SetUserTimeout is TCP_USER_TIMEOUT, in memory.
func (e *end) SetUserTimeout(d time.Duration) error {
	e.link.change(func() {
		e.timeout = d
		if e.unacked != nil {
			e.unacked.Stop()
			e.unacked = nil
		}
		e.waitForAck()
	})
	return nil
}

// Close ends the connection. What was written before still arrives.
func (e *end) Close() error {
	err := net.ErrClosed
	e.link.change(func() {
		if e.closed {
			return
		}
		e.closed, err = true, nil
		delete(e.link.open, e)
		e.read.set(time.Time{}, e.link.wake)
		e.write.set(time.Time{}, e.link.wake)
		if e.unacked != nil {
			e.unacked.Stop()
		}
	})
	return err
}

func (e *end) SetDeadline(at time.Time) error {
	return errors.Join(e.SetReadDeadline(at), e.SetWriteDeadline(at))
}

func (e *end) SetReadDeadline(at time.Time) error  { return e.setDeadline(&e.read, at) }
func (e *end) SetWriteDeadline(at time.Time) error { return e.setDeadline(&e.write, at) }

func (e *end) setDeadline(d *deadline, at time.Time) (err error) {
	e.link.change(func() {
		if e.closed {
			err = net.ErrClosed
			return
		}
		d.set(at, e.link.wake)
	})
	return err
}

// deadline wakes those who wait when it passes.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) set(at time.Time, wake func()) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	if !at.IsZero() {
		d.timer = time.AfterFunc(time.Until(at), wake)
	}
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// The two sides have addresses of the kind that documentation uses (RFC 5737).
func (e *end) LocalAddr() net.Addr  { return address(e.client) }
func (e *end) RemoteAddr() net.Addr { return address(!e.client) }

func address(client bool) net.Addr {
	if client {
		return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1234}
	}
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 80}
}

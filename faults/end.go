package faults

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// end is one end of a connection, a net.Conn. Its Link's mu guards it.
type end struct {
	link   *Link
	peer   *end
	client bool

	out      flow  // what was written here and not yet read by the peer
	writing  bool  // a Write is under way; others wait
	closed   bool  // by its own side
	vanished bool  // nothing arrives from the peer any more, nor there
	err      error // what ended the connection

	readDeadline, writeDeadline deadline

	userTimeout time.Duration // as TCP_USER_TIMEOUT; 0: none
	unacked     *time.Timer   // ends the connection when userTimeout has passed
}

func (e *end) Read(p []byte) (int, error) {
	l := e.link
	l.mu.Lock()
	defer l.mu.Unlock()
	in := &e.peer.out
	for {
		wait := time.Duration(0) // until more has arrived
		if !e.vanished {
			wait = in.advance(l.BytesPerSecond)
		}
		readable := !e.vanished && !(e.client && l.stalled) && in.arrived > 0
		switch {
		case e.closed:
			return 0, net.ErrClosed
		case e.readDeadline.passed():
			return 0, os.ErrDeadlineExceeded
		case e.err != nil:
			return 0, e.opError("read", e.err)
		case len(p) == 0:
			return 0, nil
		case readable:
			return e.receive(p), nil
		case !e.vanished && e.peer.closed && len(in.bytes) == 0:
			return 0, io.EOF
		}
		if wait > 0 {
			timer := time.AfterFunc(wait, l.wake)
			l.changed.Wait()
			timer.Stop()
			continue
		}
		l.changed.Wait()
	}
}

// receive moves what has arrived into p, at most up to where the link is to be cut.
func (e *end) receive(p []byte) int {
	l := e.link
	cutting := e.client && l.cutting
	if cutting {
		p = p[:min(len(p), l.cutAfter)]
	}
	n := e.peer.out.read(p)
	if cutting {
		if l.cutAfter -= n; l.cutAfter == 0 {
			l.cut()
		}
	}
	l.changed.Broadcast()
	return n
}

// Write writes all of p before another Write begins.
func (e *end) Write(p []byte) (n int, err error) {
	l := e.link
	l.mu.Lock()
	defer l.mu.Unlock()
	buffer := l.Buffer
	if buffer <= 0 {
		buffer = 64 << 10
	}
	mine := false // this Write is the one under way
	defer func() {
		if mine {
			e.writing = false
			l.changed.Broadcast()
		}
	}()
	for {
		switch {
		case e.closed:
			return n, net.ErrClosed
		case e.writeDeadline.passed():
			return n, os.ErrDeadlineExceeded
		case e.err != nil:
			return n, e.opError("write", e.err)
		case e.peer.closed && !e.vanished:
			return n, e.opError("write", syscall.EPIPE) // what the peer had sent can still be read
		case !mine && e.writing:
			l.changed.Wait()
			continue
		}
		mine, e.writing = true, true
		if room := min(buffer-len(e.out.bytes), len(p)-n); room > 0 {
			e.out.advance(l.BytesPerSecond)
			e.out.bytes = append(e.out.bytes, p[n:n+room]...)
			n += room
			e.startUserTimeout()
			l.changed.Broadcast()
		}
		if n == len(p) {
			return n, nil
		}
		l.changed.Wait()
	}
}

func (e *end) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "memory", Source: e.LocalAddr(), Addr: e.RemoteAddr(), Err: err}
}

func (e *end) vanish() {
	e.vanished = true
	e.startUserTimeout()
}

// startUserTimeout starts the timer that ends the connection, if something waits for an
// acknowledgement that will not come.
func (e *end) startUserTimeout() {
	if !e.vanished || e.unacked != nil || e.userTimeout <= 0 || len(e.out.bytes) == 0 {
		return
	}
	e.unacked = time.AfterFunc(e.userTimeout, func() {
		e.link.change(func() { e.err = syscall.ETIMEDOUT })
	})
}

// SetUserTimeout does what TCP_USER_TIMEOUT does for a TCP connection. Package
// internal/tcp calls it.
func (e *end) SetUserTimeout(d time.Duration) error {
	e.link.change(func() {
		e.userTimeout = d
		if e.unacked != nil {
			e.unacked.Stop()
			e.unacked = nil
		}
		e.startUserTimeout()
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
		e.readDeadline.set(time.Time{}, e.link.wake)
		e.writeDeadline.set(time.Time{}, e.link.wake)
		if e.unacked != nil {
			e.unacked.Stop()
		}
	})
	return err
}

func (e *end) SetDeadline(at time.Time) error {
	return errors.Join(e.SetReadDeadline(at), e.SetWriteDeadline(at))
}

func (e *end) SetReadDeadline(at time.Time) error  { return e.setDeadline(&e.readDeadline, at) }
func (e *end) SetWriteDeadline(at time.Time) error { return e.setDeadline(&e.writeDeadline, at) }

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

func (e *end) LocalAddr() net.Addr  { return address(e.client) }
func (e *end) RemoteAddr() net.Addr { return address(!e.client) }

// address returns the address of a side, one of those for documentation (RFC 5737).
func address(client bool) net.Addr {
	if client {
		return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1234}
	}
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 80}
}

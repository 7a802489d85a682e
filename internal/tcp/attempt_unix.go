//go:build unix

package tcp

import (
	"errors"
	"net"
	"syscall"
)

// Attempt writes to connections without blocking. It belongs to one goroutine at a
// time, and may be used for many connections; the zero value is ready.
type Attempt struct {
	write func(fd uintptr) // made once, so that a Write allocates nothing

	b   []byte // what write is to write
	n   int    // how much of it was written
	err error
}

// Raw returns the raw connection that Attempt, Reader and Discard need. It is nil if c
// cannot be written to without blocking.
func Raw(c net.Conn) syscall.RawConn {
	switch c := c.(type) {
	case *Detached:
		return c.raw()
	case *net.TCPConn:
		if raw, err := c.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// Write writes as much of b as the connection accepts without blocking, which may be
// nothing. It does not wait, so that write deadlines do not count. An error ends the connection.
func (a *Attempt) Write(raw syscall.RawConn, b []byte) (n int, err error) {
	if d, ok := raw.(*rawDetached); ok {
		n, err = (*Detached)(d).send(b)
	} else {
		n, err = a.control(raw, b)
	}
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return 0, nil
	}
	return 0, err
}

// control sends b by Control, since RawConn.Write would look after the deadline, and get the
// poller's leave to wait.
func (a *Attempt) control(raw syscall.RawConn, b []byte) (n int, err error) {
	if a.write == nil {
		a.write = func(fd uintptr) { a.n, a.err = send(int(fd), a.b) }
	}
	a.b, a.n, a.err = b, 0, nil
	err = raw.Control(a.write)
	a.b = nil
	if err != nil { // it is closed, and write was not called
		return 0, err
	}
	return a.n, a.err
}

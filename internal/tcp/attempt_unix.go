//go:build unix

package tcp

import (
	"errors"
	"net"
	"syscall"
)

// Attempt writes to connections without waiting. One Attempt serves one goroutine.
type Attempt struct {
	b     []byte
	n     int
	err   error
	write func(fd uintptr) bool
}

// Raw returns what an Attempt needs of a connection; nil if it cannot be written to
// without waiting.
func Raw(c net.Conn) syscall.RawConn {
	if t, ok := c.(*net.TCPConn); ok {
		if raw, err := t.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// Write writes as much of b as the connection takes now. The error is final.
func (a *Attempt) Write(raw syscall.RawConn, b []byte) (n int, err error) {
	if a.write == nil {
		a.write = func(fd uintptr) bool {
			a.n, a.err = syscall.Write(int(fd), a.b)
			return true
		}
	}
	a.b, a.n, a.err = b, 0, nil
	// Its own error first: after a deadline has passed nothing is written at all.
	err = raw.Write(a.write)
	a.b = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(a.err, syscall.EAGAIN), errors.Is(a.err, syscall.EINTR):
		return 0, nil
	case a.err != nil:
		return 0, a.err
	}
	return a.n, nil
}

//go:build unix

package tcp

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Detach takes the socket of a TCP connection over, for a stream that writes now and then: what
// it returns has 32 bytes in place of about 300, and no place in the runtime's poller, which is
// as much again. c is closed then, and the connection goes on. Another net.Conn, or one whose
// descriptor cannot be duplicated, is returned as it is.
//
// One goroutine at a time writes to the result, and uses its Raw and its Socket. It closes it,
// and does none of that afterwards. Deadlines may be set by any goroutine, at any time.
func Detach(c net.Conn) Conn {
	if _, ok := c.(*net.TCPConn); !ok {
		return c
	}
	fd, err := -1, error(nil)
	if ctlErr := Raw(c).Control(func(old uintptr) { fd, err = duplicate(int(old)) }); ctlErr != nil || err != nil {
		return c
	}
	_ = c.Close()
	return &detached{fd: fd}
}

// duplicate returns another descriptor of the same socket, which is in non-blocking mode too.
func duplicate(fd int) (int, error) {
	syscall.ForkLock.RLock() // no process is started before CloseOnExec
	defer syscall.ForkLock.RUnlock()
	fd, err := syscall.Dup(fd)
	if err != nil {
		return -1, err
	}
	syscall.CloseOnExec(fd)
	if fd <= syscall.Stderr { // package os ends the process when a write to that finds no reader
		_ = syscall.Close(fd)
		return -1, syscall.EBADF
	}
	return fd, nil
}

// detached is a socket without a net.Conn. The runtime's poller gets to know it when a write
// has to wait for the first time.
type detached struct {
	fd       int          // owned by the goroutine that writes; -1: closed
	deadline atomic.Int64 // of writes, in nanoseconds after epoch; 0: none

	mu   sync.Mutex
	file *os.File // has the descriptor once a write had to wait. Set by the goroutine that writes, with mu held
}

// epoch is what deadlines are counted from.
var epoch = time.Now()

// Write implements [Conn].
func (d *detached) Write(b []byte) (n int, err error) {
	if d.file == nil {
		n, err = d.attempt(b)
		if err != nil || n == len(b) {
			return n, err
		}
	}
	rest, err := d.waiting().Write(b[n:])
	return n + rest, err
}

// attempt writes as much of b as the socket accepts at once.
func (d *detached) attempt(b []byte) (n int, err error) {
	var a Attempt
	return a.Write(d.raw(), b)
}

// waiting returns a file of the descriptor, whose Write waits.
func (d *detached) waiting() *os.File {
	if d.file == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.file = os.NewFile(uintptr(d.fd), "tcp")
		if at := d.deadline.Load(); at != 0 {
			_ = d.file.SetWriteDeadline(epoch.Add(time.Duration(at)))
		}
	}
	return d.file
}

// SetWriteDeadline implements [Conn].
func (d *detached) SetWriteDeadline(at time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at.IsZero() {
		d.deadline.Store(0)
	} else {
		d.deadline.Store(int64(max(1, at.Sub(epoch))))
	}
	if d.file != nil {
		return d.file.SetWriteDeadline(at)
	}
	return nil
}

// Close implements [Conn].
func (d *detached) Close() error {
	fd := d.fd
	d.fd = -1
	switch {
	case d.file != nil:
		return d.file.Close()
	case fd < 0:
		return net.ErrClosed
	}
	return syscall.Close(fd)
}

// SyscallConn implements [syscall.Conn].
func (d *detached) SyscallConn() (syscall.RawConn, error) { return d.raw(), nil }

func (d *detached) raw() *rawDetached { return (*rawDetached)(d) }

// rawDetached is a detached as a [syscall.RawConn] that does not wait: Read and Write call f
// once.
type rawDetached detached

var errWouldWait = errors.New("tcp: the socket is not ready")

// Control implements [syscall.RawConn].
func (r *rawDetached) Control(f func(fd uintptr)) error {
	if r.fd < 0 {
		return net.ErrClosed
	}
	f(uintptr(r.fd))
	return nil
}

// Read implements [syscall.RawConn].
func (r *rawDetached) Read(f func(fd uintptr) (done bool)) error {
	if r.fd < 0 {
		return net.ErrClosed
	}
	if !f(uintptr(r.fd)) {
		return errWouldWait
	}
	return nil
}

// Write implements [syscall.RawConn].
func (r *rawDetached) Write(f func(fd uintptr) (done bool)) error {
	if at := r.deadline.Load(); at != 0 && time.Since(epoch) >= time.Duration(at) {
		return os.ErrDeadlineExceeded
	}
	return r.Read(f)
}

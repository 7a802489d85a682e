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

// Detach takes the socket of a TCP connection over, for a stream that is mostly idle: it returns
// d, which has 32 bytes in place of about 300, and no place in the runtime's poller, which is as
// much again. c is closed then, and the connection goes on. Another net.Conn, or one whose
// descriptor cannot be duplicated, is returned as it is, and d is not used.
func (d *Detached) Detach(c net.Conn) net.Conn {
	if _, ok := c.(*net.TCPConn); !ok {
		return c
	}
	fd, err := -1, error(nil)
	if ctlErr := Raw(c).Control(func(old uintptr) { fd, err = duplicate(int(old)) }); ctlErr != nil || err != nil {
		return c
	}
	_ = c.Close()
	d.fd = int32(fd)
	return d
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

// Detached is a net.Conn that is a descriptor alone. The runtime's poller gets to know it, as
// a file, when a read or a write has to wait for the first time. It is a part of what its owner
// has of a stream, so that a write finds it in the same place. It is used after Detach alone.
type Detached struct {
	fd int32

	// users is twice the number of calls that use the descriptor, and odd once Close was
	// called. The last of them closes the descriptor then, which may become another's.
	users atomic.Int32

	deadline atomic.Int64         // of writes, in nanoseconds after epoch; 0: none. Set with mu held
	mu       sync.Mutex           // guards what is set of file, and its deadlines
	file     atomic.Pointer[file] // nil until something has to wait
}

// file is a Detached that can wait.
type file struct {
	*os.File
	raw syscall.RawConn
}

// epoch is what deadlines are counted from.
var epoch = time.Now()

// acquire keeps the descriptor open until release. It reports false once Close was called.
func (d *Detached) acquire() bool {
	for {
		users := d.users.Load()
		if users&1 != 0 {
			return false
		}
		if d.users.CompareAndSwap(users, users+2) {
			return true
		}
	}
}

func (d *Detached) release() {
	if d.users.Add(-2) != 1 {
		return
	}
	if f := d.file.Load(); f != nil {
		_ = f.Close()
	} else {
		_ = syscall.Close(int(d.fd))
	}
}

func (d *Detached) isClosed() bool { return d.users.Load()&1 != 0 }

// Close implements net.Conn. What waits returns.
func (d *Detached) Close() error {
	if !d.acquire() {
		return net.ErrClosed
	}
	defer d.release()
	if d.users.Or(1)&1 != 0 {
		return net.ErrClosed // of a call at the same time
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.file.Load(); f != nil {
		_ = f.SetDeadline(time.Now())
	}
	return nil
}

// waiting returns the file. The caller has acquired d.
func (d *Detached) waiting() (*file, error) {
	if f := d.file.Load(); f != nil {
		return f, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isClosed() {
		return nil, net.ErrClosed
	}
	if f := d.file.Load(); f != nil {
		return f, nil
	}
	f := &file{File: os.NewFile(uintptr(d.fd), "tcp")}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	f.raw = raw
	if at := d.deadline.Load(); at != 0 {
		_ = f.SetWriteDeadline(epoch.Add(time.Duration(at)))
	}
	d.file.Store(f)
	return f, nil
}

// wait calls f, which may wait. If that ends because of Close, the error says so.
func (d *Detached) wait(f func(*file) error) error {
	if !d.acquire() {
		return net.ErrClosed
	}
	defer d.release()
	file, err := d.waiting()
	if err != nil {
		return err
	}
	if err = f(file); err != nil && d.isClosed() {
		return net.ErrClosed
	}
	return err
}

// Read implements net.Conn.
func (d *Detached) Read(b []byte) (n int, err error) {
	err = d.wait(func(f *file) (err error) { n, err = f.Read(b); return err })
	return n, err
}

// Write implements net.Conn.
func (d *Detached) Write(b []byte) (n int, err error) {
	if d.file.Load() == nil {
		n, err = d.attempt(b)
		if err != nil || n == len(b) {
			return n, err
		}
	}
	err = d.wait(func(f *file) error {
		rest, err := f.Write(b[n:])
		n += rest
		return err
	})
	return n, err
}

// attempt writes as much of b as the socket accepts at once, unless the deadline has passed.
func (d *Detached) attempt(b []byte) (n int, err error) {
	rawErr := d.raw().Write(func(fd uintptr) bool {
		n, err = send(int(fd), b)
		return true
	})
	switch {
	case rawErr != nil:
		return 0, rawErr
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return 0, nil
	}
	return max(0, n), err
}

// send writes as much of b as the socket accepts at once, whatever the deadline.
func (d *Detached) send(b []byte) (n int, err error) {
	if !d.acquire() {
		return 0, net.ErrClosed
	}
	defer d.release()
	return send(int(d.fd), b)
}

// CloseWrite ends the writing half.
func (d *Detached) CloseWrite() (err error) {
	if ctlErr := d.raw().Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_WR) }); ctlErr != nil {
		return ctlErr
	}
	return err
}

// SetWriteDeadline implements net.Conn.
func (d *Detached) SetWriteDeadline(at time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isClosed() {
		return net.ErrClosed
	}
	if at.IsZero() {
		d.deadline.Store(0)
	} else {
		d.deadline.Store(int64(max(1, at.Sub(epoch))))
	}
	if f := d.file.Load(); f != nil {
		return f.SetWriteDeadline(at)
	}
	return nil
}

// SetReadDeadline implements net.Conn.
func (d *Detached) SetReadDeadline(at time.Time) error {
	return d.wait(func(f *file) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.isClosed() {
			return net.ErrClosed
		}
		return f.SetReadDeadline(at)
	})
}

// SetDeadline implements net.Conn.
func (d *Detached) SetDeadline(at time.Time) error {
	if err := d.SetWriteDeadline(at); err != nil {
		return err
	}
	return d.SetReadDeadline(at)
}

// LocalAddr implements net.Conn. The address is not kept.
func (d *Detached) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr implements net.Conn. The address is not kept.
func (d *Detached) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// SyscallConn implements [syscall.Conn].
func (d *Detached) SyscallConn() (syscall.RawConn, error) { return d.raw(), nil }

func (d *Detached) raw() *rawDetached { return (*rawDetached)(d) }

// rawDetached is a Detached as a [syscall.RawConn].
type rawDetached Detached

// Control implements [syscall.RawConn].
func (r *rawDetached) Control(f func(fd uintptr)) error {
	d := (*Detached)(r)
	if !d.acquire() {
		return net.ErrClosed
	}
	defer d.release()
	f(uintptr(d.fd))
	return nil
}

// Read implements [syscall.RawConn].
func (r *rawDetached) Read(f func(fd uintptr) (done bool)) error {
	if (*Detached)(r).try(f) {
		return nil
	}
	return (*Detached)(r).wait(func(file *file) error { return file.raw.Read(f) })
}

// Write implements [syscall.RawConn].
func (r *rawDetached) Write(f func(fd uintptr) (done bool)) error {
	if at := r.deadline.Load(); at != 0 && time.Since(epoch) >= time.Duration(at) {
		return os.ErrDeadlineExceeded
	}
	if (*Detached)(r).try(f) {
		return nil
	}
	return (*Detached)(r).wait(func(file *file) error { return file.raw.Write(f) })
}

// try reports whether f is done without a wait. Once there is a file, which has deadlines,
// nothing is tried.
func (d *Detached) try(f func(fd uintptr) (done bool)) bool {
	if d.file.Load() != nil || !d.acquire() {
		return false
	}
	defer d.release()
	return f(uintptr(d.fd))
}

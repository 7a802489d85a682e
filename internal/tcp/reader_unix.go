//go:build unix

package tcp

import "syscall"

// attempt reads what has arrived. It reports false if nothing has, so that RawConn.Read
// waits and calls it again, unless this is a try. It keeps the buffer only if something was
// read.
func (r *Reader) attempt(fd uintptr) bool {
	buffer := r.Buffers.borrow()
	n, err := syscall.Read(int(fd), buffer[:])
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), buffer[:])
	}
	if n > 0 {
		r.buffer, r.unread = buffer, buffer[:n]
		return true
	}
	r.Buffers.incoming.Put(buffer)
	if err == syscall.EAGAIN {
		return r.tries
	}
	r.ended = true
	r.errno, _ = err.(syscall.Errno)
	return true
}

// Discard reads and drops what has arrived, without blocking and at most 16 buffers of
// it. Call it before Close: the kernel resets a connection that is closed with unread
// data, and the peer may then never see what was written last.
func Discard(raw syscall.RawConn, buffers *Buffers) {
	if raw == nil {
		return
	}
	buffer := buffers.borrow()
	defer buffers.incoming.Put(buffer)
	_ = raw.Read(func(fd uintptr) bool {
		for range 16 {
			if n, err := syscall.Read(int(fd), buffer[:]); n <= 0 && err != syscall.EINTR {
				break
			}
		}
		return true
	})
}

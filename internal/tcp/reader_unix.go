//go:build unix

package tcp

import "syscall"

// attempt reads what has come, if anything has, and reports whether that is so. Only
// then it keeps the buffer.
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
		return false
	}
	r.errno, _ = err.(syscall.Errno)
	return true
}

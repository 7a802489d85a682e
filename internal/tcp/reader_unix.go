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

// Discard takes what has come and was not read, without waiting, and not for ever: a
// connection that has some of it left is reset when it is closed, and the peer may
// never see what was written last.
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

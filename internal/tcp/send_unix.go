//go:build unix && (!linux || 386 || s390x)

package tcp

import "syscall"

// send writes to a socket, which is in non-blocking mode.
func send(fd int, b []byte) (n int, err error) { return syscall.Write(fd, b) }

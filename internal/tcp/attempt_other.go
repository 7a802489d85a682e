//go:build !unix

package tcp

import (
	"net"
	"syscall"
)

// Attempt writes to connections without blocking, on systems where that is possible.
type Attempt struct{}

// Raw returns nil: this system has no writes that do not block.
func Raw(net.Conn) syscall.RawConn { return nil }

// Write is never called, since Raw returns nil.
func (*Attempt) Write(syscall.RawConn, []byte) (int, error) { return 0, nil }

// attempt is never called, since Raw returns nil.
func (*Reader) attempt(uintptr) bool { return true }

// Discard does nothing on this system.
func Discard(syscall.RawConn, *Buffers) {}

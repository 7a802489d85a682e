//go:build !unix

package tcp

import (
	"net"
	"syscall"
)

// Attempt writes to connections without waiting, where that can be done.
type Attempt struct{}

// Raw returns nil: it cannot be done here.
func Raw(net.Conn) syscall.RawConn { return nil }

// Write is not called.
func (*Attempt) Write(syscall.RawConn, []byte) (int, error) { return 0, nil }

// attempt is not called.
func (*Reader) attempt(uintptr) bool { return true }

// Discard does nothing here.
func Discard(syscall.RawConn, *Buffers) {}

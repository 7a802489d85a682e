package tcp

import (
	"net"
	"syscall"
	"time"
)

// SetUserTimeout makes the kernel end the connection when sent data has waited for an
// acknowledgement for d (RFC 5482). If d is 0, the kernel's default applies, about a
// quarter of an hour on Linux. A write deadline does not replace it: a write to a peer
// that has vanished succeeds as long as the socket's buffer has room.
//
// It has an effect on Linux, for TCP connections, plain, under TLS or under another
// wrapper that [Under] looks through.
func SetUserTimeout(c net.Conn, d time.Duration) {
	switch t := Under(c).(type) {
	case syscall.Conn:
		setUserTimeout(t, d)
	case userTimeouter:
		_ = t.SetUserTimeout(d)
	}
}

// userTimeouter is a connection of package faults.
type userTimeouter interface{ SetUserTimeout(time.Duration) error }

// Package tcp bounds how long a connection may wait for a peer that has vanished.
package tcp

import (
	"net"
	"time"
)

// SetUserTimeout lets the kernel end the connection when data has been waiting
// for an acknowledgement for d (RFC 5482); 0 is the kernel's default, which on
// Linux is about a quarter of an hour. Deadlines do not see this: a write to a
// vanished peer succeeds as long as the socket's buffer has room.
//
// It does something on Linux, for TCP connections, plain or under TLS.
func SetUserTimeout(c net.Conn, d time.Duration) {
	switch t := Under(c).(type) {
	case *net.TCPConn:
		setUserTimeout(t, d)
	case interface{ SetUserTimeout(time.Duration) error }: // in memory, for tests
		_ = t.SetUserTimeout(d)
	}
}

package tcp

import (
	"net"
	"syscall"
)

// SetUnsent bounds how many bytes the kernel accepts that it has not sent yet, about.
// If bytes is 0, the kernel's default applies: some megabytes, of which a third must
// have been sent before a blocked writer continues. With a small bound a write to a slow
// client blocks only as long as the client needs for that much, and the connection pins
// little memory.
//
// It has an effect on Linux, for TCP connections, plain, under TLS or under another
// wrapper that [Under] looks through.
func SetUnsent(c net.Conn, bytes int) {
	if t, ok := Under(c).(syscall.Conn); ok {
		setUnsent(t, bytes)
	}
}

package tcp

import "net"

// SetUnsent lets the kernel take no more than about so many bytes that it has not sent
// yet; 0 is its default, some megabytes, of which a third has to be gone before a writer
// that waits may go on. With a bound a client that reads slowly lets a write wait for what
// it can take in that time, and holds little memory.
//
// It does something on Linux, for TCP connections, plain or under TLS.
func SetUnsent(c net.Conn, bytes int) {
	if t, ok := Under(c).(*net.TCPConn); ok {
		setUnsent(t, bytes)
	}
}

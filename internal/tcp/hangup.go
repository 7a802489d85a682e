package tcp

import "net"

// HangUp closes a connection at once. Under TLS it sends no close_notify alert, which
// would wait for a peer that does not read.
func HangUp(c net.Conn) {
	under := Under(c)
	socket, ok := under.(interface{ CloseWrite() error })
	switch {
	case under == c:
	case ok:
		_ = socket.CloseWrite() // an alert fails then, and each wrapper's Close closes what it wraps
	default:
		_ = under.Close()
	}
	_ = c.Close()
}

// CloseWrite ends the writing half of a connection, so that the peer reads its end, and
// the other half goes on. Under TLS the peer gets a close_notify alert first, which takes
// at most 5 s. A connection that cannot be closed by halves is left alone.
func CloseWrite(c net.Conn) {
	for range maxWrappers {
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		if c = unwrap(c); c == nil {
			return
		}
	}
}

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

package tcp

import "net"

// HangUp closes a connection at once. Under TLS it sends no close_notify alert, which
// would wait for a peer that does not read.
func HangUp(c net.Conn) {
	_ = Under(c).Close()
	_ = c.Close()
}

// Under returns the connection that a TLS connection, or another wrapper with a NetConn
// method, wraps; c itself if it wraps none.
func Under(c net.Conn) net.Conn {
	for {
		t, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = t.NetConn()
	}
}

// CloseWrite ends the writing half of a connection, so that the peer reads its end, and
// the other half goes on. Under TLS the peer gets a close_notify alert first, which takes
// at most 5 s. A connection that cannot be closed by halves is left alone.
func CloseWrite(c net.Conn) {
	for {
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		t, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return
		}
		c = t.NetConn()
	}
}

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

package tcp

import "net"

// HangUp closes a connection without a word, under TLS as well, whose own Close would
// wait for a peer that does not read.
func HangUp(c net.Conn) {
	_ = Under(c).Close()
	_ = c.Close()
}

// Under returns the connection that a TLS connection, or another wrapper, is on.
func Under(c net.Conn) net.Conn {
	for {
		t, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = t.NetConn()
	}
}

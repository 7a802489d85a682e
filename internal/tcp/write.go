package tcp

import "net"

// Write writes buffers in one go: with writev where the system has it, else joined
// into one, so that under TLS they are few large records. It returns the buffer that
// it has joined them in, nil if that is too large to be kept by an idle connection.
func Write(c net.Conn, buffers net.Buffers, joined []byte) ([]byte, error) {
	if len(buffers) == 1 {
		_, err := c.Write(buffers[0])
		return joined, err
	}
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
		_, err := buffers.WriteTo(c)
		return joined, err
	}
	joined = joined[:0]
	for _, b := range buffers {
		joined = append(joined, b...)
	}
	_, err := c.Write(joined)
	if cap(joined) > 4096 {
		joined = nil
	}
	return joined, err
}

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

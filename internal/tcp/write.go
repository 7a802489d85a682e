package tcp

import (
	"net"
	"sync"
)

// Writer writes several buffers to a connection in one go. One Writer serves all of a
// handler's connections; the zero Writer is ready.
type Writer struct{ joined sync.Pool }

// maxKept is more than one write has, unless it is of a single message.
const maxKept = 512 << 10

// Write writes with writev where the system has it, else joined into one buffer, so
// that under TLS they are few large records.
func (w *Writer) Write(c net.Conn, buffers net.Buffers) error {
	if len(buffers) == 1 {
		_, err := c.Write(buffers[0])
		return err
	}
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
		_, err := buffers.WriteTo(c)
		return err
	}
	return w.Join(buffers, func(b []byte) error {
		_, err := c.Write(b)
		return err
	})
}

// Join calls f with all buffers in one, which is good until f returns.
func (w *Writer) Join(buffers net.Buffers, f func([]byte) error) error {
	joined, _ := w.joined.Get().(*[]byte)
	if joined == nil {
		joined = new([]byte)
	}
	b := (*joined)[:0]
	for _, buffer := range buffers {
		b = append(b, buffer...)
	}
	err := f(b)
	if cap(b) <= maxKept {
		*joined = b
		w.joined.Put(joined)
	}
	return err
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

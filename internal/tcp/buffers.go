package tcp

import (
	"net"
	"sync"
)

// Buffers are pools from which connections borrow a buffer while there is something to
// write or to read. All connections of a handler share one Buffers; the zero value is
// ready.
type Buffers struct{ joined, incoming sync.Pool }

// maxPooled is the largest buffer that is put back. A write exceeds it only if a single
// message does.
const maxPooled = 512 << 10

// Write writes several buffers at once: with writev where the connection supports it,
// else joined into one, so that TLS makes few large records of them.
func (b *Buffers) Write(c net.Conn, buffers net.Buffers) error {
	if len(buffers) == 1 {
		_, err := c.Write(buffers[0])
		return err
	}
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
		_, err := buffers.WriteTo(c)
		return err
	}
	return b.Join(buffers, func(joined []byte) error {
		_, err := c.Write(joined)
		return err
	})
}

// Join calls f with all buffers joined into one, which f must not keep.
func (b *Buffers) Join(buffers net.Buffers, f func([]byte) error) error {
	pooled, _ := b.joined.Get().(*[]byte)
	if pooled == nil {
		pooled = new([]byte)
	}
	joined := (*pooled)[:0]
	for _, buffer := range buffers {
		joined = append(joined, buffer...)
	}
	err := f(joined)
	if cap(joined) <= maxPooled {
		*pooled = joined
		b.joined.Put(pooled)
	}
	return err
}

// incoming is a buffer to read into.
type incoming [4 << 10]byte

func (b *Buffers) borrow() *incoming {
	if buffer, ok := b.incoming.Get().(*incoming); ok {
		return buffer
	}
	return new(incoming)
}

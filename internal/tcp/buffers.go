package tcp

import (
	"net"
	"sync"
)

// Buffers are what a handler's connections borrow while there is something to write
// or to read. One of them serves all; the zero value is ready.
type Buffers struct{ joined, incoming sync.Pool }

// maxKept is more than one write has, unless it is of a single message.
const maxKept = 512 << 10

// Write writes several buffers in one go: with writev where the system has it, else
// joined into one buffer, so that under TLS they are few large records.
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

// Join calls f with all buffers in one, which is good until f returns.
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
	if cap(joined) <= maxKept {
		*pooled = joined
		b.joined.Put(pooled)
	}
	return err
}

// incoming is a buffer for what comes in.
type incoming [4 << 10]byte

func (b *Buffers) borrow() *incoming {
	if buffer, ok := b.incoming.Get().(*incoming); ok {
		return buffer
	}
	return new(incoming)
}

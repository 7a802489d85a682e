package delivery

import (
	"net"
	"syscall"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

// Write writes buffers to a connection in one go, on the time of a worker. raw is
// tcp.Raw of the connection. What a stream that keeps up writes, the socket accepts without
// blocking, and the worker moves on to the next stream: such a write needs no deadline. More
// than maxWrite bytes go out in several writes, each with a timeout of its own.
func Write(c net.Conn, raw syscall.RawConn, pool *tcp.Buffers, d *Deadline, buffers net.Buffers, w *Worker) error {
	if w != nil && raw != nil && d.Lifted() {
		if buffers = w.join(buffers); len(buffers) == 1 {
			n, err := w.Attempt.Write(raw, buffers[0])
			d.Accepted(n)
			if err != nil || n == len(buffers[0]) {
				return err
			}
			buffers[0] = buffers[0][n:]
		}
	}
	return writeWaiting(c, pool, d, buffers, w)
}

// writeWaiting is Write once the worker may wait.
func writeWaiting(c net.Conn, pool *tcp.Buffers, d *Deadline, buffers net.Buffers, w *Worker) error {
	w.Wait()
	size := 0
	for _, b := range buffers {
		size += len(b)
	}
	if size <= maxWrite {
		d.Renew()
		err := pool.Write(c, buffers)
		d.Wrote(size)
		return err
	}
	for _, b := range buffers {
		err := InParts(b, d, func(part []byte) error {
			_, err := c.Write(part)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// InParts writes b in parts of at most maxWrite bytes, each with a timeout of its own:
// a large message is no reason to cut a slow client.
func InParts(b []byte, d *Deadline, write func([]byte) error) error {
	for {
		part := b[:min(len(b), maxWrite)]
		d.Renew()
		if err := write(part); err != nil {
			return err
		}
		d.Wrote(len(part))
		if b = b[len(part):]; len(b) == 0 {
			return nil
		}
	}
}

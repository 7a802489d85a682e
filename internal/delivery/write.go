package delivery

import (
	"net"
	"syscall"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

// Write writes buffers to a connection in one go, on the time of a worker. A single
// buffer that the socket takes at once, which is what a stream writes that keeps up,
// leaves the worker to the next stream. Raw is tcp.Raw of the connection.
func Write(c net.Conn, raw syscall.RawConn, pool *tcp.Buffers, buffers net.Buffers, w *Worker) error {
	if w == nil || raw == nil || len(buffers) != 1 {
		w.Wait()
		return pool.Write(c, buffers)
	}
	n, err := w.Attempt.Write(raw, buffers[0])
	if err != nil || n == len(buffers[0]) {
		return err
	}
	w.Wait()
	_, err = c.Write(buffers[0][n:])
	return err
}

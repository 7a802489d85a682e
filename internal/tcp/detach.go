package tcp

import (
	"io"
	"time"
)

// Conn is what a stream writes to: a net.Conn, or what [Detach] returns.
type Conn interface {
	io.WriteCloser
	SetWriteDeadline(time.Time) error
}

package tcp

import (
	"io"
	"net"
	"os"
	"syscall"
)

// Reader reads from a connection through a buffer that it has only while there is
// something in it: an idle connection holds none.
type Reader struct {
	Raw     syscall.RawConn // as [Raw] has it; nil: what is read is not buffered here
	Buffers *Buffers

	conn   net.Conn
	fill   func(fd uintptr) bool
	buffer *incoming
	unread []byte        // of buffer, or from before
	errno  syscall.Errno // why nothing was read; 0: at the end
}

// Reset lets the Reader begin with what has been read of a connection already.
func (r *Reader) Reset(c net.Conn, buffers *Buffers, already []byte) {
	*r = Reader{Raw: Raw(c), Buffers: buffers, conn: c, unread: already}
	r.fill = r.attempt
}

// Buffered returns how many bytes can be read without asking the connection.
func (r *Reader) Buffered() int { return len(r.unread) }

// Least returns how large the buffer of whoever reads in small pieces has to be.
func (r *Reader) Least() int {
	if r.Raw != nil {
		return 16
	}
	return 256
}

// Read reads as net.Conn has it.
func (r *Reader) Read(p []byte) (int, error) {
	switch {
	case len(r.unread) > 0 || len(p) == 0:
	case r.Raw == nil:
		return r.conn.Read(p)
	default:
		// Its own error first: after a deadline has passed nothing is read at all.
		err := r.Raw.Read(r.fill)
		switch {
		case err != nil:
			return 0, err
		case r.errno != 0:
			return 0, os.NewSyscallError("read", r.errno)
		case len(r.unread) == 0:
			return 0, io.EOF
		}
	}
	n := copy(p, r.unread)
	if r.unread = r.unread[n:]; len(r.unread) == 0 {
		r.unread = nil
		if r.buffer != nil {
			r.Buffers.incoming.Put(r.buffer)
			r.buffer = nil
		}
	}
	return n, nil
}

package tcp

import (
	"io"
	"net"
	"os"
	"syscall"
)

// Reader reads from a connection through a buffer that it borrows only while the buffer
// has something unread: an idle connection pins none.
type Reader struct {
	Raw     syscall.RawConn // what [Raw] returns; if nil, reads are not buffered
	Buffers *Buffers        // where it borrows

	conn   net.Conn
	fill   func(fd uintptr) bool // attempt, bound once so that a Read allocates nothing
	buffer *incoming             // borrowed; nil while nothing is unread
	unread []byte                // the rest of buffer, or of what was given to Reset
	errno  syscall.Errno         // why the last attempt read nothing; 0 at the end of the stream
}

// Reset makes the Reader read from c, first what has been read of it already.
func (r *Reader) Reset(c net.Conn, buffers *Buffers, already []byte) {
	*r = Reader{Raw: Raw(c), Buffers: buffers, conn: c, unread: already}
	r.fill = r.attempt
}

// Buffered returns how many bytes can be read without reading from the connection.
func (r *Reader) Buffered() int { return len(r.unread) }

// Least returns the least useful size of a bufio.Reader over this Reader. It is small if
// the Reader buffers by itself.
func (r *Reader) Least() int {
	if r.Raw != nil {
		return 16
	}
	return 256
}

// Read implements net.Conn.
func (r *Reader) Read(p []byte) (int, error) {
	switch {
	case len(r.unread) > 0 || len(p) == 0:
	case r.Raw == nil:
		return r.conn.Read(p)
	default:
		// RawConn.Read's own error comes first: once a deadline has passed it does not
		// call fill at all.
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

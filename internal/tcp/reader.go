package tcp

import (
	"io"
	"net"
	"os"
	"syscall"
)

// Reader reads from a connection through a buffer that it borrows only while the buffer
// has something unread: an idle connection pins none. Without a Raw it has a small buffer of
// its own.
type Reader struct {
	Raw     syscall.RawConn // what [Raw] returns; nil: none
	Buffers *Buffers        // where it borrows

	conn   net.Conn
	fill   func(fd uintptr) bool // attempt, bound once so that a Read allocates nothing
	buffer *incoming             // borrowed; nil while nothing is unread
	unread []byte                // the rest of buffer, or of what was given to Reset
	ended  bool                  // the last attempt has found the end, or errno
	errno  syscall.Errno         // why there is nothing more to read; 0 at the end of the stream
	tries  bool                  // attempt is not repeated
	own    *[ownSize]byte        // the buffer without Raw
}

// ownSize is how much of a connection without Raw is buffered.
const ownSize = 256

// Reset makes the Reader read from c, first what has been read of it already.
func (r *Reader) Reset(c net.Conn, buffers *Buffers, already []byte) {
	*r = Reader{Raw: Raw(c), Buffers: buffers, conn: c, unread: already}
	r.fill = r.attempt
}

// Buffered returns how many bytes can be read without reading from the connection.
func (r *Reader) Buffered() int { return len(r.unread) }

// Read implements net.Conn.
func (r *Reader) Read(p []byte) (int, error) {
	switch {
	case len(r.unread) > 0 || len(p) == 0:
	case r.Raw == nil && len(p) >= ownSize:
		return r.conn.Read(p)
	default:
		if err := r.Fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.unread)
	r.Consume(n)
	return n, nil
}

// Fill waits until there is something unread, or the connection has ended. It is called
// while nothing is unread.
func (r *Reader) Fill() error {
	if r.Raw == nil {
		return r.fillOwn()
	}
	if r.errno == 0 { // the kernel reports an error once
		r.ended = false
		// RawConn.Read's own error comes first: once a deadline has passed it does not
		// call fill at all.
		if err := r.Raw.Read(r.fill); err != nil {
			return err
		}
	}
	switch {
	case !r.ended:
		return nil
	case r.errno != 0:
		return os.NewSyscallError("read", r.errno)
	}
	return io.EOF
}

// fillOwn is Fill without Raw.
func (r *Reader) fillOwn() error {
	if r.own == nil {
		r.own = new([ownSize]byte)
	}
	n, err := r.conn.Read(r.own[:])
	if n > 0 {
		r.unread = r.own[:n]
		return nil // a Read that fails fails again
	}
	return err
}

// TryFill is Fill without the wait, and needs a Raw. It reports whether there is something
// unread.
func (r *Reader) TryFill() (filled bool, err error) {
	r.tries = true
	err = r.Fill()
	r.tries = false
	return len(r.unread) > 0, err
}

// Unread returns what can be read without reading from the connection. It is valid until
// the next call of another method.
func (r *Reader) Unread() []byte { return r.unread }

// Consume makes the first n bytes of Unread read.
func (r *Reader) Consume(n int) {
	if r.unread = r.unread[n:]; len(r.unread) > 0 {
		return
	}
	r.unread = nil
	if r.buffer != nil {
		r.Buffers.incoming.Put(r.buffer)
		r.buffer = nil
	}
}

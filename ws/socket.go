package ws

import (
	"errors"
	"net"
	"time"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

// socket is the network connection that the library reads and writes. It shares the
// connection with our own writers, frame by frame.
//
// Frames are parsed twice: the library (coder/websocket) parses, checks and inflates
// them, and framing reads their headers on the way to it. The library lets two errors
// pass that RFC 6455 wants failed, takes the end of the connection for the end of a
// message, and fills the buffer it is given before it returns. With framing we catch
// the first, report the second, and know how many bytes of a message have arrived, so
// that text is checked as it comes. A parser of our own would replace both.
type socket struct {
	// Set by attach and the handshake, before the first frame.
	net.Conn
	conn     *Conn // reads and writes through this socket; nil during the handshake
	client   bool  // our frames are masked, the peer's are not
	deflates bool  // messages may be deflated
	began    time.Time

	in  incoming // owned by the goroutine that reads
	out outgoing // has locks of its own
}

// attach puts the socket on a connection of which the bytes in already have been read.
func (s *socket) attach(c net.Conn, already []byte, buffers *tcp.Buffers, timeout time.Duration) {
	s.Conn, s.began = c, time.Now()
	s.in.reader.Reset(c, buffers, already)
	s.out.deadline.Of, s.out.deadline.Timeout = c, timeout
}

// errCut stands for io.EOF, which the library takes for the end of a message.
var errCut = errors.New("the connection has ended without a close frame")

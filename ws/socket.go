package ws

import (
	"net"
	"time"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

// socket is the network connection of a WebSocket: frames are read from it by one goroutine
// (incoming), and written to it by many (outgoing).
type socket struct {
	// Set by attach and the handshake, before the first frame.
	net.Conn
	conn     *Conn // reads and writes through this socket; nil during the handshake
	client   bool  // our frames are masked, the peer's are not
	deflates bool  // messages may be deflated

	// What a write needs is close together: each cache line is fetched for every delivery.
	out      outgoing     // has locks of its own
	detached tcp.Detached // the Conn, once it is detached
	in       incoming     // owned by the goroutine that reads

	began time.Time // set with the fields above
}

// attach puts the socket on a connection of which the bytes in already have been read.
func (s *socket) attach(c net.Conn, already []byte, buffers *tcp.Buffers, timeout time.Duration) {
	s.Conn, s.began = c, time.Now()
	s.in.reader.Reset(c, buffers, already)
	s.out.deadline.Of, s.out.deadline.Timeout = c, timeout
}

// detach keeps of the connection what an idle one needs. It is called before the socket is used.
func (s *socket) detach() {
	s.Conn = s.detached.Detach(s.Conn)
	s.in.reader.Reset(s.Conn, s.in.reader.Buffers, s.in.reader.Unread())
	s.out.deadline.Of = s.Conn
}

package ws

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/internal/tcp"
)

// incoming is the reading half of a socket. It is owned by the goroutine that reads,
// one at a time, except for the two figures that the keepalive loads.
type incoming struct {
	reader  tcp.Reader
	framing framing
	failed  bool   // reading from the network connection has failed
	held    []byte // from the frame on that ends the connection: not passed to the library yet

	// Stored by the goroutine that reads, loaded by any.
	reads    atomic.Int64 // raised before and after each read of the network connection: odd during one
	lastRead atomic.Int64 // when the last read returned, in nanoseconds since socket.began
}

// Read is called by the library.
func (s *socket) Read(p []byte) (int, error) {
	in := &s.in
	if in.framing.err != nil {
		return 0, in.framing.err
	}
	if len(in.held) > 0 {
		s.conn.awaitAnswers()
		n := copy(p, in.held)
		in.held = in.held[n:]
		return s.parse(p[:n], nil)
	}
	if in.reader.Buffered() > 0 {
		n, _ := in.reader.Read(p)
		return s.parse(p[:n], nil)
	}
	in.reads.Add(1)
	n, err := in.reader.Read(p)
	in.lastRead.Store(int64(time.Since(s.began)))
	in.reads.Add(1)
	if err != nil {
		in.failed = true
	}
	return s.parse(p[:n], err)
}

// parse makes the result of a Read from what the network connection has returned. For a
// Handler it holds back what ends the connection until the library asks for it: until the
// messages before it were read, and answered.
func (s *socket) parse(p []byte, err error) (int, error) {
	f := &s.in.framing
	n := s.parseFrames(p, s.conn != nil && s.conn.reading.inbox != nil)
	if f.err != nil {
		return n, f.err
	}
	if f.holds {
		f.holds = false
		s.in.held = append([]byte(nil), p[n:]...)
		if n > 0 {
			return n, nil // a Read that fails fails again
		}
		return s.Read(p)
	}
	if errors.Is(err, io.EOF) {
		err = errCut
	}
	return n, err
}

// parseFrames lets framing parse p. If hold is true, it stops before the frame that ends the
// connection.
func (s *socket) parseFrames(p []byte, hold bool) int {
	f := &s.in.framing
	f.client, f.deflates, f.hold = s.client, s.deflates, hold
	return f.parse(p)
}

// discard reads and discards until the peer's close frame or the end of the connection. It
// is called in place of Read, by the goroutine that reads, once our close frame was sent
// and nothing that comes is wanted. If what the peer has sent hides its close frame, the
// end of our half makes it end the connection.
func (s *socket) discard() {
	in := &s.in
	s.parseFrames(in.held, false)
	in.held = nil
	if !in.framing.closed && s.out.state.load() == closeSent {
		tcp.CloseWrite(s.Conn)
	}
	var b [1 << 10]byte
	for !in.framing.closed && !in.failed {
		n, err := in.reader.Read(b[:])
		s.parseFrames(b[:n], false)
		in.failed = err != nil
	}
	tcp.Discard(in.reader.Raw, in.reader.Buffers) // what follows a close frame must not reset the connection
}

// available returns how many bytes of the current message to request from the library,
// which returns only when it has all of them: as many as have arrived, at least one. Of
// a message that may be deflated it cannot be known, and 4 KiB are requested. The
// goroutine that reads calls it between Reads.
func (s *socket) available() int {
	if s.deflates {
		return 4 << 10
	}
	in := &s.in
	n := in.framing.unread
	if in.framing.data {
		n += min(in.framing.rest, uint64(in.reader.Buffered()))
	}
	return int(max(1, n))
}

// consumed records that n bytes of a message were read from the library. Where
// messages may be deflated the figure means nothing, and available does not use it.
func (s *socket) consumed(n int) { s.in.framing.unread -= uint64(n) }

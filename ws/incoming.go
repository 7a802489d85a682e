package ws

import (
	"bufio"
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
	library *bufio.Reader // what the library reads through; nil if that is not known
	failed  bool          // reading from the network connection has failed
	held    []byte        // from the frame on that ends the connection: not passed to the library yet

	// Stored by the goroutine that reads, loaded by any.
	reads    atomic.Int64 // raised before and after each read of the network connection: odd during one
	lastRead atomic.Int64 // when the last read returned, in nanoseconds since socket.began
}

// Read is called by the library. Where it is buffered it returns no bytes of two messages at
// once, so that what comes after a message is still here.
func (s *socket) Read(p []byte) (n int, err error) {
	in := &s.in
	for n == 0 && err == nil && len(p) > 0 {
		switch {
		case in.framing.err != nil:
			return 0, in.framing.err
		case len(in.held) > 0:
			s.conn.awaitAnswers()
			n = copy(p, in.held)
			in.held = in.held[n:]
			n, _, err = s.parse(p[:n], nil)
			continue
		case in.reader.Buffered() == 0:
			n, err = s.await(p)
			if n > 0 || err != nil {
				n, _, err = s.parse(p[:n], err)
				continue
			}
		}
		var parsed int
		in.framing.stops = in.reader.Raw != nil
		n, parsed, err = s.parse(p[:copy(p, in.reader.Unread())], nil)
		in.framing.stops = false
		in.reader.Consume(parsed)
	}
	return n, err
}

// await waits until something has come: to the reader's buffer if it has one, else to p.
func (s *socket) await(p []byte) (n int, err error) {
	in := &s.in
	in.reads.Add(1)
	if in.reader.Raw != nil {
		err = in.reader.Fill()
	} else {
		n, err = in.reader.Read(p)
	}
	in.lastRead.Store(int64(time.Since(s.began)))
	in.reads.Add(1)
	in.failed = in.failed || err != nil
	return n, err
}

// parse makes the result of a Read from what was received, of which it has parsed so much.
// For a Handler it holds back what ends the connection until the library asks for it: until
// the messages before it were read, and answered.
func (s *socket) parse(p []byte, err error) (n, parsed int, _ error) {
	f := &s.in.framing
	n, parsed = s.parseFrames(p, s.conn != nil && s.conn.reading.inbox != nil)
	switch {
	case f.err != nil:
		return n, parsed, f.err
	case f.holds:
		f.holds = false
		s.in.held = append([]byte(nil), p[n:]...)
		return n, len(p), nil // a Read that fails fails again
	case errors.Is(err, io.EOF):
		err = errCut
	}
	return n, parsed, err
}

// parseFrames lets framing parse p. If hold is true, it stops before the frame that ends the
// connection.
func (s *socket) parseFrames(p []byte, hold bool) (good, parsed int) {
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

// more reports whether the library has something to read: the beginning of a message, what
// ends the connection, or an error. It does not wait. Pings and pongs that come before that
// are handled here, since the library would go on to wait for a message. If more reports
// false, a message or nothing has come to its end, and all that has come was handled. The
// goroutine that reads calls it between messages.
func (s *socket) more() bool {
	in := &s.in
	if !in.framing.between() || len(in.held) > 0 || in.failed || in.library.Buffered() > 0 {
		return true
	}
	for {
		if in.reader.Buffered() == 0 {
			filled, err := in.reader.TryFill()
			if !filled && err == nil {
				return false
			}
			in.lastRead.Store(int64(time.Since(s.began)))
			if err != nil {
				return true // the library gets it again
			}
		}
		if !s.handleControl() {
			return true
		}
	}
}

// handleControl handles a ping or a pong, and reports whether a whole one was unread.
func (s *socket) handleControl() bool {
	const head = 2 + 4 // of a short frame of a client
	b := s.in.reader.Unread()
	if len(b) < head || b[0] != finBit|opPing && b[0] != finBit|opPong || b[1]&maskBit == 0 {
		return false
	}
	size := int(b[1] &^ maskBit)
	if size > maxControl || len(b) < head+size {
		return false
	}
	if b[0] == finBit|opPing {
		var payload [maxControl]byte
		for i, masked := range b[head : head+size] {
			payload[i] = masked ^ b[2+i%4]
		}
		s.answer(payload[:size])
	}
	s.in.reader.Consume(head + size)
	return true
}

// rest says that the goroutine that reads goes away, and resume that it is back. Meanwhile
// a read waits, as far as the keepalive is concerned.
func (s *socket) rest()   { s.in.reads.Add(1) }
func (s *socket) resume() { s.in.reads.Add(1) }

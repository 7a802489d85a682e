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
	failed  bool // reading from the network connection has failed

	// Stored by the goroutine that reads, loaded by any.
	reads    atomic.Int64 // raised before and after each read of the network connection: odd during one
	lastRead atomic.Int64 // when the last read returned, in nanoseconds since socket.began
}

// errCut is why reading ends at the end of the connection.
var errCut = errors.New("the connection has ended without a close frame")

// await waits until something is unread, or the connection has ended.
func (s *socket) await() error {
	if s.in.reader.Buffered() > 0 {
		return nil
	}
	s.in.reads.Add(1)
	err := s.in.reader.Fill()
	s.received(err)
	s.in.reads.Add(1)
	return s.ended(err)
}

// read reads what is unread, or waits for something.
func (s *socket) read(p []byte) (int, error) {
	if s.in.reader.Buffered() > 0 {
		return s.in.reader.Read(p)
	}
	s.in.reads.Add(1)
	n, err := s.in.reader.Read(p)
	s.received(err)
	s.in.reads.Add(1)
	return n, s.ended(err)
}

// arrived is await without the wait. It reports whether await would not wait.
func (s *socket) arrived() bool {
	if s.in.reader.Buffered() > 0 {
		return true
	}
	filled, err := s.in.reader.TryFill()
	if !filled && err == nil {
		return false
	}
	s.received(err)
	return true
}

// received notes that a read has returned.
func (s *socket) received(err error) {
	s.in.lastRead.Store(int64(time.Since(s.began)))
	s.in.failed = s.in.failed || err != nil
}

func (s *socket) ended(err error) error {
	if errors.Is(err, io.EOF) {
		return errCut
	}
	return err
}

// rest says that the goroutine that reads goes away, and resume that it is back. Meanwhile
// a read waits, as far as the keepalive is concerned.
func (s *socket) rest()   { s.in.reads.Add(1) }
func (s *socket) resume() { s.in.reads.Add(1) }

// readHeader reads the header of a frame. Its error may be that the frame is not allowed.
func (s *socket) readHeader() error {
	f := &s.in.framing
	for f.err == nil {
		if err := s.await(); err != nil {
			return err
		}
		b := s.in.reader.Unread()[0]
		s.in.reader.Consume(1)
		if f.add(b) {
			break
		}
	}
	return f.err
}

// readPayload reads bytes of the frame's payload, as many as have arrived and fit into p, at
// least one.
func (s *socket) readPayload(p []byte) (int, error) {
	f := &s.in.framing
	n, err := s.read(p[:min(uint64(len(p)), f.rest)])
	if n == 0 {
		return 0, err
	}
	f.unmask(p[:n])
	f.consume(uint64(n))
	return n, nil
}

// discard reads and discards until the peer's close frame or the end of the connection. It
// is called by the goroutine that reads, once our close frame was sent and nothing that
// comes is wanted. If what the peer has sent hides its close frame, the end of our half makes
// it end the connection.
func (s *socket) discard() {
	in := &s.in
	if !in.framing.closed && s.out.state.load() == closeSent {
		tcp.CloseWrite(s.Conn)
	}
	for !in.framing.closed && s.await() == nil {
		b := in.reader.Unread()
		in.framing.skip(b)
		in.reader.Consume(len(b))
	}
	tcp.Discard(in.reader.Raw, in.reader.Buffers) // what follows a close frame must not reset the connection
}

package ws

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// socket is the connection under a WebSocket. The library above it reads and
// checks frames; ours and its own are written here, where they share the
// connection at frame boundaries. Nothing follows a close frame, or a write that
// failed.
type socket struct {
	net.Conn
	client   bool    // frames are masked, and the peer's must not be
	incoming framing // what the library has been given
	deflates bool    // messages may be deflated
	reader   tcp.Reader
	said     *[]byte // by the library, of a frame that is not whole yet
	deadline delivery.Deadline
	conn     *Conn // on top; nil during the handshake

	// turn is held by whoever writes. Control messages do not wait for it: who
	// holds the turn writes them before letting go of it.
	turn   turn
	over   atomic.Bool // a close frame went out, or a write failed:
	broke  atomic.Bool // that
	began  time.Time
	heard  atomic.Int64 // when a Read ended last, in nanoseconds since began
	reads  atomic.Int64 // grows when a Read begins and when it ends: odd while one waits
	failed atomic.Bool  // a Read has failed

	mu   sync.Mutex // guards what waits for the turn
	pong []byte     // the answer to the newest ping
	ping bool
}

// stand puts the socket on a connection, of which something has been read already.
func (s *socket) stand(c net.Conn, already []byte, buffers *tcp.Buffers, timeout time.Duration) {
	s.Conn, s.began = c, time.Now()
	s.deadline.Of, s.deadline.Timeout = c, timeout
	s.reader.Reset(c, buffers, already)
}

func (s *socket) Read(p []byte) (int, error) {
	if s.incoming.wrong != nil {
		return 0, s.incoming.wrong
	}
	if s.reader.Buffered() > 0 {
		n, _ := s.reader.Read(p)
		return s.passes(p[:n], nil)
	}
	s.reads.Add(1)
	n, err := s.reader.Read(p)
	s.heard.Store(int64(time.Since(s.began)))
	s.reads.Add(1)
	if err != nil {
		s.failed.Store(true)
	}
	return s.passes(p[:n], err)
}

// errCut is what the library is told instead of io.EOF, which it takes for the end of
// a message wherever it comes.
var errCut = errors.New("the connection has ended without a close frame")

// passes gives the library what a Read has brought.
func (s *socket) passes(p []byte, err error) (int, error) {
	n := s.incoming.follow(p, s.client)
	if s.incoming.wrong != nil {
		return n, s.incoming.wrong
	}
	if errors.Is(err, io.EOF) {
		err = errCut
	}
	return n, err
}

// room returns how much of a message to ask the library for, which waits until it can
// fill what it is given: as much as has come, or a byte. How much that is once it is
// inflated is not known. It is called between Reads, by whoever reads.
func (s *socket) room() int {
	if s.deflates {
		return 4 << 10
	}
	n := s.incoming.passed
	if s.incoming.data {
		n += min(s.incoming.rest, uint64(s.reader.Buffered()))
	}
	return int(max(1, n))
}

// took takes note that bytes of a message were taken. Of what is deflated room does not
// ask how much.
func (s *socket) took(n int) { s.incoming.passed -= uint64(n) }

// Write is called by the library, with control messages in pieces. It is left only
// close frames to write: it answers one, or refuses what the peer did.
func (s *socket) Write(p []byte) (int, error) {
	if s.said == nil {
		s.said = new([]byte)
	}
	if *s.said = append(*s.said, p...); !wholeControl(*s.said) {
		return len(p), nil
	}
	why, err := parseClose(*s.said)
	s.said = nil
	if err != nil {
		return 0, err
	}
	if !utf8.ValidString(why.Reason) {
		// The library echoes it as it came (RFC 6455 section 8.1 wants it failed).
		why = &CloseError{StatusInvalidFramePayloadData, "the close reason is not UTF-8"}
	}
	if err := s.close(why); err != nil {
		return 0, err
	}
	return len(p), nil
}

// done writes the control messages that wait, and lets go of the turn.
func (s *socket) done(w *delivery.Worker) {
	for {
		if control := s.waiting(); control != nil {
			_ = s.write(w, control)
			continue
		}
		s.turn.letGo()
		// One may have come too late to be seen and too early to get the turn.
		if !s.hasWaiting() || !s.turn.tryTake() {
			return
		}
	}
}

func (s *socket) hasWaiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pong != nil || s.ping
}

// waiting takes the next control message that waits, as a frame.
func (s *socket) waiting() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.pong != nil:
		frame := appendFrame(nil, opPong, s.pong, s.client)
		s.pong = nil
		return frame
	case s.ping:
		s.ping = false
		return appendFrame(nil, opPing, nil, s.client)
	}
	return nil
}

// answer sends a pong, as soon as there is a turn. Of several pings only the
// newest needs an answer (RFC 6455 section 5.5.3), so that a peer which pings and
// does not read makes nothing pile up.
func (s *socket) answer(ping []byte) {
	s.mu.Lock()
	s.pong = append(make([]byte, 0, len(ping)), ping...)
	s.mu.Unlock()
	if s.turn.tryTake() {
		go s.done(nil) // who reads does not wait for a write: two peers may ping at the same time
	}
}

// probe sends a ping, as soon as there is a turn.
func (s *socket) probe() {
	s.mu.Lock()
	s.ping = true
	s.mu.Unlock()
	if s.turn.tryTake() {
		s.done(nil)
	}
}

// send writes whole frames in one go, on the time of a worker.
func (s *socket) send(frames net.Buffers, w *delivery.Worker) error {
	if !s.turn.tryTake() {
		w.Wait()
		s.turn.wait() // who has it has a deadline
	}
	defer s.done(w)
	return s.write(w, frames...)
}

// write writes frames in the caller's turn. After an error the connection is
// gone.
func (s *socket) write(w *delivery.Worker, frames ...[]byte) error {
	if s.over.Load() {
		return net.ErrClosed
	}
	err := delivery.Write(s.Conn, s.reader.Raw, s.reader.Buffers, &s.deadline, frames, w)
	if err != nil {
		s.over.Store(true)
		s.broke.Store(true)
		tcp.HangUp(s.Conn)
		if s.conn != nil {
			go s.conn.cut(fmt.Errorf("ws: writing: %w", err)) // which may wait for a Read
		}
	}
	return err
}

// behind reports whether a control message waits for a write that may yet succeed.
func (s *socket) behind() bool { return s.deadline.Timeout > 0 && s.hasWaiting() }

// close sends a close frame, once. The error says that none could be sent.
func (s *socket) close(why *CloseError) error {
	s.deadline.Fix()
	s.turn.wait() // who has it has a deadline
	defer s.done(nil)
	switch {
	case s.broke.Load():
		return net.ErrClosed
	case s.over.Load():
		return nil
	}
	err := s.write(nil, appendClose(nil, why, s.client))
	s.over.Store(true)
	return err
}

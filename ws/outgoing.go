package ws

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// outgoing is the writing half of a socket. Whole frames are written while lock is
// locked. Control frames do not wait for it: they are stored, and the goroutine that
// has locked it writes them before it unlocks.
type outgoing struct {
	lock     fifoMutex
	state    writeStateWord
	controls atomic.Bool // control frames wait for lock. Set with mu held
	deadline delivery.Deadline

	mu      sync.Mutex // guards the control frames that wait for lock
	pongs   pongs
	ping    bool        // a ping waits
	closing *CloseError // what the close frame says; nil until it is decided. See Conn.decide
}

// writeState is whether more may be written. It depends on what was written last, and
// not on the phase, which is what was decided: a close frame is sent some time after
// Close was called, and that of a peer is answered while the connection is still open.
// So any writeState goes with any phase.
type writeState uint32

const (
	// writable: whole frames were written, if any.
	writable writeState = iota

	// closeSent: a close frame was written, and nothing may follow it (RFC 6455 section
	// 5.5.1).
	closeSent

	// broken: a write has failed, perhaps within a frame, so that nothing may follow. The
	// goroutine whose write failed cuts the connection.
	broken
)

// writeStateWord is the writeState of one socket. It leaves writable once, by the
// goroutine that has locked outgoing.lock; any goroutine may load it. The zero
// writeStateWord is writable.
type writeStateWord struct{ word atomic.Uint32 }

func (w *writeStateWord) load() writeState   { return writeState(w.word.Load()) }
func (w *writeStateWord) store(s writeState) { w.word.Store(uint32(s)) }

// send writes whole frames at once, in a worker's time.
func (s *socket) send(frames net.Buffers, w *delivery.Worker) error {
	if !s.out.lock.tryLock() {
		w.Wait()
		s.out.lock.lock() // the write that holds it has a deadline
	}
	defer s.unlock(w)
	return s.write(w, frames...)
}

// write writes frames. The caller has locked out.lock. After an error the connection
// is cut.
func (s *socket) write(w *delivery.Worker, frames ...[]byte) error {
	if s.out.state.load() != writable {
		return net.ErrClosed
	}
	err := delivery.Write(s.Conn, s.in.reader.Raw, s.in.reader.Buffers, &s.out.deadline, frames, w)
	if err != nil {
		s.out.state.store(broken)
		if s.conn == nil {
			tcp.HangUp(s.Conn)
		} else {
			// In a goroutine, since cut may wait for another. It alone closes the connection: a
			// Read that saw the end before the cause would take it for its own.
			go s.conn.cut(fmt.Errorf("ws: writing: %w", err))
		}
	}
	return err
}

// close writes the close frame that was decided, unless it was written before. The error says
// that none could be sent.
func (s *socket) close() error {
	s.out.deadline.Fix()
	s.out.lock.lock() // the write that holds it has a deadline
	defer s.unlock(nil)
	switch s.out.state.load() {
	case broken:
		return net.ErrClosed
	case closeSent:
		return nil
	}
	s.out.mu.Lock()
	why := s.out.closing
	s.out.mu.Unlock()
	if err := s.write(nil, appendClose(nil, why, s.client)); err != nil {
		return err
	}
	s.out.state.store(closeSent)
	return nil
}

// answer sends a pong as soon as nothing else is being written.
func (s *socket) answer(ping []byte) {
	s.out.mu.Lock()
	s.out.pongs.add(ping, s.client)
	s.out.controls.Store(true)
	s.out.mu.Unlock()
	if s.out.lock.tryLock() {
		go s.unlock(nil) // the goroutine that reads must not wait for a write: both peers may send pings at once
	}
}

// ping sends a ping as soon as nothing else is being written.
func (s *socket) ping() {
	s.out.mu.Lock()
	s.out.ping = true
	s.out.controls.Store(true)
	s.out.mu.Unlock()
	if s.out.lock.tryLock() {
		s.unlock(nil)
	}
}

// unlock writes the control frames that wait, and unlocks out.lock.
func (s *socket) unlock(w *delivery.Worker) {
	for {
		for s.out.controls.Load() {
			_ = s.write(w, s.takeControls())
		}
		s.out.lock.unlock()
		// A control frame may have been stored before unlock, when its tryLock failed.
		if !s.out.controls.Load() || !s.out.lock.tryLock() {
			return
		}
	}
}

// takeControls removes the control frames that wait, and returns them.
func (s *socket) takeControls() (frames []byte) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.out.pongs.wait() {
		frames = s.out.pongs.take()
	}
	if s.out.ping {
		s.out.ping = false
		frames = appendFrame(frames, opPing, nil, s.client)
	}
	s.out.controls.Store(false)
	return frames
}

// pingDelayed reports whether a control frame waits for a write that has a deadline.
// The peer cannot have answered it.
func (s *socket) pingDelayed() bool { return s.out.deadline.Timeout > 0 && s.out.controls.Load() }

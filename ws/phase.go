package ws

import "sync/atomic"

// phase is how far a connection has come. It never goes back, and changes only
// through [phaseWord.to].
type phase uint32

const (
	// open: messages go both ways. This is the only phase in which Write sends
	// messages and Close closes.
	open phase = iota

	// ending: the Handler's stream on the connection has been asked to end. Its
	// writer may still send messages, and sends a close frame last, unless a close
	// frame of the peer's is read before: then that is answered with it. Write and Close
	// return net.ErrClosed, and messages from the peer are discarded. Reading goes
	// on as in open: it ends with the peer's close frame, or with a refusal.
	ending

	// closing: Close was called. It sends a close frame, and discards what the peer
	// sends until its close frame or WriteTimeout ends the connection. Read returns
	// net.ErrClosed, whatever comes; nothing is refused any more.
	closing

	// refusing: the peer has sent what it must not, and the connection fails (RFC 6455
	// section 7.1.7). Read has returned the CloseError that goes to the peer as a close
	// frame, unless one was decided before. Nothing more is written, so that half of the TCP
	// connection is closed. What the peer goes on to send is read and discarded until its
	// close frame, its end of the connection, or WriteTimeout: a TCP connection with unread
	// bytes is reset when it is closed, and the peer might never see the close frame. So
	// CloseNow does nothing in this phase.
	refusing

	// dead: the network connection is closed, or is being closed, without another
	// frame. The cause of the Conn's context says why.
	dead
)

// mayBecome reports whether next may follow p.
func (p phase) mayBecome(next phase) bool {
	switch p {
	case open:
		return next != open
	case ending:
		return next == refusing || next == dead
	case closing, refusing:
		return next == dead
	}
	return false
}

func (p phase) String() string {
	return [...]string{"open", "ending", "closing", "refusing", "dead"}[p]
}

// phaseWord is the phase of one connection. Any goroutine may read and change it; of
// several changes at once that exclude each other, one succeeds. The goroutine whose
// change succeeded does what the new phase asks for, the others do not; but a close frame
// is written by whoever comes first (see Conn.decide).
//
// The zero phaseWord is open.
type phaseWord struct{ word atomic.Uint32 }

func (w *phaseWord) load() phase { return phase(w.word.Load()) }

// to changes the phase to next if that may follow the current phase, and reports
// whether it did. It returns the phase before.
func (w *phaseWord) to(next phase) (from phase, changed bool) {
	for {
		from = w.load()
		if !from.mayBecome(next) {
			return from, false
		}
		if w.word.CompareAndSwap(uint32(from), uint32(next)) {
			return from, true
		}
	}
}

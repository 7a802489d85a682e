package faults

import (
	"net"
	"net/http"
	"sync"
	"syscall"

	"github.com/fanfare-go/fanfare/internal/memnet"
)

// Link is a network in memory between a client and a server. The zero value is fast
// and has no faults. Its fields are set before its first use. Its methods may be called
// at any time; they apply to all connections over the link, open ones and later ones,
// unless they say otherwise.
type Link struct {
	// BytesPerSecond is how fast bytes arrive over each connection, in each
	// direction. If zero, at once.
	BytesPerSecond int

	// Buffer is how many bytes may be in flight in each direction before a write
	// waits for the other side to read. If zero, 64 KiB.
	Buffer int

	mu       sync.Mutex // guards what follows, and every end
	changed  sync.Cond  // broadcast whenever something below, or in an end, changes
	stalled  bool
	vanished bool
	cutting  bool // the open connections are cut once cutAfter more bytes have arrived
	cutAfter int  // bytes from the server
	open     map[*end]struct{}
}

// Via returns r, to be sent over the link by ssetest.Connect, wstest.Dial and their
// like.
func Via(r *http.Request, l *Link) *http.Request {
	return r.WithContext(memnet.WithNetwork(r.Context(), l))
}

// Stall makes the client stop reading. What the server sends fills the Buffer; further
// writes wait.
func (l *Link) Stall() {
	l.change(func() { l.stalled = true })
}

// Vanish makes each side unreachable for the other, like a phone that has lost its
// network: nothing arrives any more, not even the end of the connection. What is sent
// still fills the Buffer. The connections that are open now never recover.
//
// As over TCP on Linux, a connection with a TCP_USER_TIMEOUT ends once sent data has
// waited that long to arrive. Streams set one where they can.
func (l *Link) Vanish() {
	l.change(func() {
		l.vanished = true
		for e := range l.open {
			e.vanish()
		}
	})
}

// Resume ends what Stall and Vanish began. Connections that had vanished stay
// unreachable; new ones work.
func (l *Link) Resume() {
	l.change(func() { l.stalled, l.vanished = false, false })
}

// Cut resets the open connections: data in flight is lost, and both sides get an error.
func (l *Link) Cut() { l.change(l.cut) }

// CutAfter cuts the open connections once n more bytes from the server have arrived,
// which may be in the middle of an event or a frame.
func (l *Link) CutAfter(n int) {
	l.change(func() {
		l.cutting, l.cutAfter = n > 0, n
		if n <= 0 {
			l.cut()
		}
	})
}

// Pipe returns the two ends of a new connection over the link. Both have deadlines, as
// TCP connections do.
func (l *Link) Pipe() (client, server net.Conn) {
	c, s := &end{link: l, client: true}, &end{link: l}
	c.peer, s.peer = s, c
	l.change(func() {
		if l.open == nil {
			l.open = make(map[*end]struct{})
		}
		for _, e := range []*end{c, s} {
			l.open[e] = struct{}{}
			if l.vanished {
				e.vanish()
			}
		}
	})
	return c, s
}

// change applies f under the lock and wakes every Read and Write that waits.
func (l *Link) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed.L = &l.mu
	f()
	l.changed.Broadcast()
}

// wake makes every Read and Write that waits check its state again. It holds the lock,
// so that it cannot come between a check and the Wait after it.
func (l *Link) wake() { l.change(func() {}) }

// cut resets the open connections. The caller holds mu.
func (l *Link) cut() {
	l.cutting = false
	for e := range l.open {
		if !e.vanished { // a reset does not reach a peer that has vanished
			e.err = syscall.ECONNRESET
		}
	}
}

package delivery

import (
	"sync"
	"time"
)

// Deadline is the write deadline of a connection: each write gets at least half
// of the timeout, and the system is asked only when that runs short.
type Deadline struct {
	// Of is what has the deadline: a net.Conn or an http.ResponseController,
	// which need not support it.
	Of interface{ SetWriteDeadline(time.Time) error }

	// Timeout is how long a write may take. If zero, for ever.
	Timeout time.Duration

	mu    sync.Mutex
	at    time.Time
	fixed bool
	left  bool
}

// Renew is called before each write.
func (d *Deadline) Renew() {
	if d.Timeout <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); !d.fixed && d.at.Sub(now) < d.Timeout/2 {
		d.set(now.Add(d.Timeout))
	}
}

// Clear is called after a write where the deadline counts while nothing is written
// as well, as it does for a stream of HTTP/2.
func (d *Deadline) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Timeout > 0 && !d.fixed {
		d.set(time.Time{})
	}
}

// Fix lets all writes from now on, and one that is under way, share one last
// timeout. A second Fix changes nothing.
func (d *Deadline) Fix() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.fixed && d.Timeout > 0 {
		d.set(time.Now().Add(d.Timeout))
	}
	d.fixed = true
}

// Cut lets all writes fail from now on, and one that is under way.
func (d *Deadline) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.left {
		d.set(time.Now())
	}
	d.fixed = true
}

// Leave is Fix for the last time: somebody else may have the connection from now on.
func (d *Deadline) Leave() {
	d.Fix()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = true
}

func (d *Deadline) set(at time.Time) {
	d.at = at
	_ = d.Of.SetWriteDeadline(at) // who cannot has none
}

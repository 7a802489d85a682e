package delivery

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/internal/guard"
)

// Deadline is the write deadline of a connection. Each write that may wait has nearly all of
// the timeout: the system is asked at most 64 times in that time, and on a connection that other
// streams share only once the deadline has passed. One that cannot wait has none.
//
// A client that was fast has a kernel with a large receive buffer, which then accepts
// hundreds of KB at once, and nothing more until a sixteenth of it is free. No signal of the
// connection tells such a client from one that has stopped reading: meanwhile nothing is
// acknowledged, and the window is closed. What tells them apart is how much was accepted at
// once before. So a write has the timeout for each step bytes of that, at most maxPatience
// times. A client that has never read much is cut after one timeout.
type Deadline struct {
	// Of is what has the deadline: a net.Conn or an http.ResponseController. It need
	// not support deadlines.
	Of interface{ SetWriteDeadline(time.Time) error }

	// Timeout is how long a write may take. If zero, for ever.
	Timeout time.Duration

	// Multiplexed says that other streams share the connection. Their windows are not the
	// kernel's, and open as the client reads: each write has one timeout.
	Multiplexed bool

	state deadlineState // guarded by mu, and here for its size
	looks bool          // late is to call expire. Guarded by mu
	asked atomic.Uint32 // what Fix, Cut and the timer have asked for, until settle does it. Of any goroutine

	// Owned by the goroutine that writes.
	burst  uint32 // KiB written since a write has waited
	before uint32 // burst when that write had begun, or half of what it was before

	mu       sync.Mutex
	at       atomic.Int64  // the deadline as it was set last, or noted, after epoch; 0: none. Set with mu held
	patience time.Duration // what it gave then; 0: the next write renews it, whatever is left, or it was only noted
	late     *time.Timer   // calls expire, where deadlines are noted; nil: none was. Guarded by mu
}

// epoch is what deadlines are counted from: a time.Time would take three times as much of an
// idle stream.
var epoch = time.Now()

// What asked may have.
const (
	askedToFix = 1 << iota
	askedToCut
	askedToLook
)

const (
	step        = 4 * maxWrite
	maxPatience = 3
)

// deadlineState says what may still change a deadline.
type deadlineState uint8

const (
	renewing deadlineState = iota // each write renews it
	fixed                         // it stands for all writes that are left; Cut may bring it forward
	cut                           // it has passed
	left                          // the connection is somebody else's: nothing changes it
)

// Renew is called before each write that may wait.
func (d *Deadline) Renew() {
	if d.Timeout <= 0 {
		return
	}
	defer d.settle()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.state != renewing:
		return
	case d.Multiplexed:
		d.renewLate()
		return
	}
	patience := d.patienceNow()
	if d.patience == 0 || d.after()-time.Since(epoch) < patience-d.Timeout/64 {
		d.patience = patience
		d.set(time.Now().Add(patience))
	}
}

// renewLate is Renew where other streams share the connection. HTTP/2 takes the goroutine that
// serves the connection to set a deadline and once more to lift it, which is an eighth of what
// a delivery costs. So there a deadline is only noted, and a timer looks whether it has passed,
// which it seldom does more than once per Timeout, and then sets it.
func (d *Deadline) renewLate() {
	d.at.Store(int64(time.Since(epoch) + d.Timeout))
	if !d.looks {
		d.lookIn(d.Timeout)
	}
}

// lookIn starts the timer. The caller holds mu.
func (d *Deadline) lookIn(wait time.Duration) {
	d.looks = true
	if d.late == nil {
		d.late = time.AfterFunc(wait, d.expire)
	} else {
		d.late.Reset(wait)
	}
}

// expire is called by the timer.
func (d *Deadline) expire() {
	d.asked.Or(askedToLook)
	d.settle()
}

// look sets the deadline that was noted if it has passed, and looks again when it may have. The
// caller holds mu.
func (d *Deadline) look() {
	d.looks = false
	if d.state != renewing || d.at.Load() == 0 {
		return
	}
	if left := d.after() - time.Since(epoch); left > 0 {
		d.lookIn(left)
		return
	}
	d.patience = d.Timeout
	d.set(time.Now())
}

// after returns the deadline, after epoch; 0: none.
func (d *Deadline) after() time.Duration { return time.Duration(d.at.Load()) }

// Lifted is called before a write that cannot wait, and for which deadlines do not count. It
// lifts the one of an earlier write, and reports false if Fix or Cut has set one: that counts
// for all that is left.
func (d *Deadline) Lifted() bool {
	if d.at.Load() != 0 {
		d.Clear()
	}
	return d.at.Load() == 0
}

// patienceNow returns how long the next write may wait.
func (d *Deadline) patienceNow() time.Duration {
	accepted := float64(max(d.burst, d.before)) * 1024
	return time.Duration(float64(d.Timeout) * min(max(accepted/step, 1), maxPatience))
}

// Wrote is called after each write, with how many bytes it has written.
func (d *Deadline) Wrote(n int) {
	if d.Timeout <= 0 || d.Multiplexed {
		return
	}
	defer d.settle()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != renewing {
		return
	}
	if waited := d.patience - (d.after() - time.Since(epoch)); d.patience != 0 && waited >= d.Timeout/8 {
		d.before, d.burst = max(d.burst, d.before/2), 0
		d.patience = 0
	}
	d.Accepted(n)
}

// Accepted is Wrote after a write that cannot have waited. It reads no clock and takes no lock.
func (d *Deadline) Accepted(n int) {
	const most = 1 << 20 // KiB
	d.burst = min(d.burst+uint32((n+1023)/1024), most)
}

// Clear is called after a write where a deadline that is set would count between writes too, as
// on a stream of HTTP/2.
func (d *Deadline) Clear() {
	defer d.settle()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.Timeout <= 0 || d.state != renewing:
	case d.Multiplexed && d.patience == 0: // it was only noted
		d.at.Store(0)
	default:
		d.patience = 0
		d.set(time.Time{})
	}
}

// Fix gives the write in progress and all later ones one last timeout together. A
// second Fix changes nothing.
func (d *Deadline) Fix() {
	d.asked.Or(askedToFix)
	d.settle()
}

// Cut makes the write in progress and all later ones fail.
func (d *Deadline) Cut() {
	d.asked.Or(askedToCut)
	d.settle()
}

// settle does what Fix, Cut and the timer have asked for, unless mu is locked: then the goroutine that
// has locked it comes here next. So neither waits for a user's SetWriteDeadline, which may be
// what has called it.
func (d *Deadline) settle() {
	for d.asked.Load() != 0 && d.mu.TryLock() {
		func() {
			defer d.mu.Unlock() // also if a user's SetWriteDeadline ends the goroutine
			d.obey()
		}()
	}
}

// obey does what Fix, Cut and the timer have asked for. The caller holds mu.
func (d *Deadline) obey() {
	asked := d.asked.Swap(0)
	if asked&askedToLook != 0 {
		d.look()
	}
	if asked&askedToFix != 0 {
		d.fix()
	}
	if asked&askedToCut != 0 && d.state < cut {
		d.state = cut
		d.set(time.Now())
	}
}

func (d *Deadline) fix() {
	if d.state != renewing {
		return
	}
	d.state = fixed
	if d.Timeout > 0 {
		d.set(time.Now().Add(d.Timeout))
	}
}

// Leave is Fix for the last time: the connection may be somebody else's from here on.
func (d *Deadline) Leave() {
	defer d.settle()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.obey() // another goroutine's Fix may have held mu when Cut was called
	d.fix()
	d.state = left
}

// set sets the deadline. What does not support deadlines has none; neither has a
// wrapper whose SetWriteDeadline panics, since many goroutines come here.
func (d *Deadline) set(at time.Time) {
	after := time.Duration(0)
	if !at.IsZero() {
		after = at.Sub(epoch)
	}
	if d.looks {
		d.late.Stop()
		d.looks = false
	}
	d.at.Store(int64(after))
	_ = guard.Call("SetWriteDeadline", func() error { return d.Of.SetWriteDeadline(at) })
}

package faults

import "time"

// deadline is a time after which a Read or a Write fails. The zero deadline never
// passes.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

// set moves the deadline. When it passes, wake is called.
func (d *deadline) set(at time.Time, wake func()) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	if !at.IsZero() {
		d.timer = time.AfterFunc(time.Until(at), wake)
	}
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

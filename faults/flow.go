package faults

import "time"

// flow is what is in flight in one direction of a connection.
type flow struct {
	bytes   []byte
	arrived int       // how many of them have arrived and can be read
	at      time.Time // when arrived was last brought up to date
}

// advance brings arrived up to date, and returns how long to wait until more has
// arrived; 0 if everything has.
func (f *flow) advance(perSecond int) time.Duration {
	now := time.Now()
	if perSecond <= 0 || f.arrived == len(f.bytes) {
		f.arrived, f.at = len(f.bytes), now
		return 0
	}
	rate := float64(perSecond)
	if n := int(now.Sub(f.at).Seconds() * rate); n > 0 {
		f.arrived = min(f.arrived+n, len(f.bytes))
		f.at = f.at.Add(seconds(float64(n) / rate))
	}
	// Readers wake up for a tenth of a second's worth, not for each byte.
	next := min(len(f.bytes)-f.arrived, max(1, perSecond/10))
	return max(time.Nanosecond, seconds(float64(next)/rate)-now.Sub(f.at))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// read moves what has arrived into p.
func (f *flow) read(p []byte) int {
	n := copy(p, f.bytes[:f.arrived])
	f.bytes = append(f.bytes[:0], f.bytes[n:]...)
	f.arrived -= n
	return n
}

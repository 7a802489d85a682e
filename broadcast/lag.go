package broadcast

import "time"

// lag is how far the Hub's head is behind its journal, in time. It is guarded by Hub.mu.
type lag struct {
	// known are sequences that the journal has and the head has not reached, and when this
	// Hub learned of them. Both rise.
	known []knownAt

	// step is within what time sequences count as known at once. It doubles when there are
	// too many.
	step time.Duration
}

// knownAt says that the journal was known to have everything up to seq at a time.
type knownAt struct {
	seq uint64
	at  time.Time
}

const (
	lagStep  = 100 * time.Millisecond // the first step
	maxKnown = 64
)

// learn notes that the journal has everything up to seq.
func (l *lag) learn(seq uint64, now time.Time) {
	n := len(l.known)
	switch {
	case n > 0 && seq <= l.known[n-1].seq:
		return
	case n == 0:
		l.step = lagStep
	case now.Sub(l.known[n-1].at) < l.step:
		l.known[n-1].seq = seq
		return
	case n == maxKnown:
		// Of each two the earlier time stands for both, so that the lag is not too short.
		for i := range n / 2 {
			l.known[i] = knownAt{l.known[2*i+1].seq, l.known[2*i].at}
		}
		l.known, l.step = l.known[:n/2], 2*l.step
	}
	l.known = append(l.known, knownAt{seq, now})
}

// reach notes that the head is at seq.
func (l *lag) reach(seq uint64) {
	n := 0
	for n < len(l.known) && l.known[n].seq <= seq {
		n++
	}
	if n > 0 {
		l.known = l.known[:copy(l.known, l.known[n:])]
	}
}

// since returns since when the oldest entry is known that the head has not reached; the zero
// time if there is none.
func (l *lag) since() time.Time {
	if len(l.known) == 0 {
		return time.Time{}
	}
	return l.known[0].at
}

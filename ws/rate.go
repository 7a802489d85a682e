package ws

import "time"

// rate is a token bucket that holds the messages of one second, at least one. A nil rate
// allows everything.
type rate struct {
	perSecond float64
	tokens    float64
	forgiven  float64   // tokens on top of the bucket
	at        time.Time // of the last call of allows; zero before the first
}

// forgive adds the tokens of a time in which nothing was read, for the messages that
// were sent during it and are read at once.
func (r *rate) forgive(d time.Duration) {
	if r != nil {
		r.forgiven += d.Seconds() * r.perSecond
	}
}

// allows reports whether a message is allowed now, and removes its token.
func (r *rate) allows(now time.Time) bool {
	if r == nil {
		return true
	}
	most := max(1, r.perSecond)
	if r.at.IsZero() {
		r.tokens = most
	} else {
		r.tokens = min(most, r.tokens+now.Sub(r.at).Seconds()*r.perSecond)
	}
	r.at = now
	switch {
	case r.tokens >= 1:
		r.tokens--
	case r.forgiven >= 1:
		r.forgiven--
	default:
		return false
	}
	return true
}

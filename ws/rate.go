package ws

import (
	"math"
	"time"
)

// rate is a token bucket that holds the messages of one second, at least one. A nil rate
// allows everything.
type rate struct {
	perSecond float64
	tokens    float64   // negative: messages wait for these
	at        time.Time // of the last take; zero before the first
}

// take takes the token of a message, and returns after how long it is there.
func (r *rate) take(now time.Time) time.Duration {
	if r == nil {
		return 0
	}
	most := max(1, r.perSecond)
	if r.at.IsZero() {
		r.tokens = most
	} else {
		r.tokens = min(most, r.tokens+now.Sub(r.at).Seconds()*r.perSecond)
	}
	r.at = now
	r.tokens--
	if r.tokens >= 0 {
		return 0
	}
	wait := math.Ceil(-r.tokens / r.perSecond * float64(time.Second))
	return time.Duration(min(wait, math.MaxInt64/2))
}

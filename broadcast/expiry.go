package broadcast

import (
	"time"
	"weak"
)

// expiry is the timer that forgets topics which have not been used for their TTL. It exists
// only while there is an unused topic that is to be forgotten. It does not keep a Hub in memory that nobody has any
// more. It is guarded by Hub.mu.
type expiry struct {
	timer *time.Timer
	at    time.Duration // when it is due; since retention.began
}

// expiryPause is the part of TopicTTL that a topic may be kept for longer, so that the timer
// does not fire for each topic.
const expiryPause = 64

// scheduleExpiry starts the timer if there is an unused topic. The caller holds mu.
func (h *Hub) scheduleExpiry(now time.Time) {
	if h.closed || h.expiry.timer != nil && len(h.kept.unused) == 1 {
		return // what is unused later is due later
	}
	due, ttl, ok := h.kept.expiresIn(now)
	if !ok {
		return
	}
	due = max(due, ttl/expiryPause)
	at := now.Sub(h.kept.began) + due
	switch {
	case h.expiry.timer == nil:
	case at >= h.expiry.at:
		return
	default:
		h.expiry.timer.Stop()
	}
	h.expiry.at = at
	h.startExpiry(due)
}

func (h *Hub) startExpiry(after time.Duration) {
	hub := weak.Make(h)
	h.expiry.timer = time.AfterFunc(after, func() {
		if h := hub.Value(); h != nil {
			h.expireTopics()
		}
	})
}

// expireTopics forgets topics, with a few for each time that it holds mu.
func (h *Hub) expireTopics() {
	for more := true; more; {
		now := time.Now()
		h.mu.Lock()
		if more = !h.closed && h.kept.expire(now); !more {
			h.expiry.timer = nil
			h.scheduleExpiry(now)
		}
		h.mu.Unlock()
	}
}

// stop ends the timer. The caller holds Hub.mu.
func (e *expiry) stop() {
	if e.timer != nil {
		e.timer.Stop()
	}
}

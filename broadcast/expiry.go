package broadcast

import (
	"time"
	"weak"
)

// expiry is the timer that forgets topics which have not been used for TopicTTL. It exists
// only while there is an unused topic. It does not keep a Hub in memory that nobody has any
// more. It is guarded by Hub.mu.
type expiry struct{ timer *time.Timer }

// expiryPause is the part of TopicTTL that a topic may be kept for longer, so that the timer
// does not fire for each topic.
const expiryPause = 64

// scheduleExpiry starts the timer if there is an unused topic. The caller holds mu.
func (h *Hub) scheduleExpiry(now time.Time) {
	if h.expiry.timer != nil || h.closed || h.kept.unused.first == nil {
		return
	}
	due := h.kept.unused.first.used + h.topicTTL() - now.Sub(h.kept.began)
	h.startExpiry(max(due, h.topicTTL()/expiryPause))
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
		if more = !h.closed && h.kept.expire(now, h.topicTTL()); !more {
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

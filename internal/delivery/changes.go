package delivery

import (
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// TopicsRequest is what a client sends to get other topics.
type TopicsRequest struct {
	Topics []string     // the whole new set
	After  broadcast.ID // the client had these topics up to here, on another connection; zero: it did not
}

// maxTopics is how many topics a subscription may have.
const maxTopics = 1000

// A change calls the user's Grant.Change, and makes or removes up to maxTopics cursors. So
// a client may change its topics changeBurst times at once, and then every changeEvery.
const (
	changeEvery = 200 * time.Millisecond
	changeBurst = 10
)

// changes bounds how often a stream's topics change. It is owned by the writer.
type changes struct {
	paid   time.Duration // all changes until now count up to here, on the engine's clock
	waking bool          // a timer wakes the writer
}

// postpone reports whether a change has to wait, and then has wake called once it need not
// any more. Otherwise it counts the change.
func (c *changes) postpone(now time.Duration, wake func()) bool {
	if wait := c.paid - (changeBurst-1)*changeEvery - now; wait > 0 {
		if !c.waking {
			c.waking = true
			time.AfterFunc(wait, wake)
		}
		return true
	}
	c.waking = false
	c.paid = max(c.paid, now) + changeEvery
	return false
}

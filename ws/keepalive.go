package ws

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/fanfare-go/fanfare/internal/delivery"
)

// keepalive is when a connection pings, and what it knew at the last ping.
type keepalive struct {
	interval time.Duration // between pings; 0: none
	due      time.Duration // when to check the peer again, since socket.began
	reads    int64         // incoming.reads at the last check
	pinged   bool          // the last check sent a ping
}

// errSilent is why a connection ends whose peer did not answer a ping.
var errSilent = errors.New("ws: the peer is silent")

// start starts the timers of a connection that no Handler's clock serves.
func (c *Conn) start(maxAge time.Duration) *Conn {
	c.closeAfter(maxAge)
	if c.keepalive.interval == 0 {
		return c
	}
	c.pingTimer = time.AfterFunc(math.MaxInt64, func() {
		if d := c.checkPeer(); d > 0 {
			c.pingTimer.Reset(d)
		}
	})
	c.pingTimer.Reset(c.keepalive.interval) // only now: its function reads c.pingTimer
	return c
}

// checkPeer sends a ping after every interval in which nothing came in, and cuts a peer
// that was silent from one ping to the next. Silence counts only if a read was waiting
// all the time: else bytes may have arrived that nothing has read. checkPeer does not
// block. It returns after how long to call it again, 0 for never; an earlier call does
// no harm.
func (c *Conn) checkPeer() time.Duration {
	k := &c.keepalive
	now := time.Since(c.socket.began)
	switch {
	case k.interval == 0 || c.ctx.Err() != nil:
		return 0
	case now < k.due:
		return k.due - now
	}
	reads := c.socket.in.reads.Load()
	lastRead := time.Duration(c.socket.in.lastRead.Load())
	switch {
	case now-lastRead < k.interval: // something came in
		k.pinged = false
		k.due = lastRead + k.interval
		return k.due - now
	case k.pinged && reads == k.reads && reads&1 == 1 && !c.socket.pingDelayed():
		go c.cut(errSilent)
		return 0
	}
	go c.socket.ping()
	k.pinged = true
	k.reads = reads
	k.due = now + k.interval
	return k.interval
}

// closeAfter closes the connection after 80 to 100 % of maxAge, at random; 0 for never.
func (c *Conn) closeAfter(maxAge time.Duration) {
	if maxAge == 0 {
		return
	}
	timer := time.AfterFunc(delivery.Lifetime(maxAge), func() {
		_ = c.Close(StatusServiceRestart, "service restart")
	})
	context.AfterFunc(c.ctx, func() { timer.Stop() })
}

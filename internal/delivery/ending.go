package delivery

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Reason is why a stream ends, or has ended.
type Reason struct {
	Name     string // for the log and the counts: one of a few
	Code     int    // the WebSocket status code; 0: no close frame, the connection is cut
	Text     string // goes with Code
	Complete bool   // the client first gets everything that is in the log when the end is asked for
	Detail   string // for the log

	// Retry is the least reconnection time that an event stream sends last; 0: it sends none.
	Retry time.Duration
}

// The reasons that both transports have.
var (
	Polled       = Reason{Name: "polled", Code: 1000, Complete: true}
	Restart      = Reason{Name: "restart", Code: 1012, Text: "service restart", Complete: true}
	Expired      = Reason{Name: "expired", Code: 3000, Text: "expired"}
	RequestEnded = Reason{Name: "request ended", Code: 1001, Text: "going away"}
	GapNotSent   = Reason{Name: "gap not sent", Code: 1013, Text: "messages were lost"}
	Ended        = Reason{Name: "ended", Code: 1000, Complete: true}
	Slow         = Reason{Name: "slow", Code: 1013, Text: "too slow", Retry: 5 * time.Second}
	Fault        = Reason{Name: "fault", Code: 1011}
	Cut          = Reason{Name: "cut"}
	Failed       = Reason{Name: "write failed"}
	PeerGone     = Reason{Name: "peer gone"}
	Left         = Reason{Name: "peer gone", Code: 1001} // perhaps it has ended its half alone, and reads on
)

// What a client is refused for that has asked for a close frame in place of a status.
var (
	unauthorized = Reason{Code: 3000, Text: "unauthorized"} // 401
	forbidden    = Reason{Code: 3003, Text: "forbidden"}    // 403
)

// ending is when and why a stream ends.
type ending struct {
	at time.Duration // the latest, on the engine's clock; 0: never. The clock's

	// Of any goroutine.
	expires      atomic.Int64                       // when the Grant does, on the engine's clock; 0: never
	why          atomic.Pointer[Reason]             // set once the stream is asked to end: the first reason stands
	stopSnapshot atomic.Pointer[context.CancelFunc] // ends the context of a Grant.Snapshot that runs
	done         atomic.Pointer[chan struct{}]      // closed when the stream has ended; nil if nobody has asked for it
}

// closed is what wait returns once the stream has ended.
var closed = func() *chan struct{} {
	c := make(chan struct{})
	close(c)
	return &c
}()

// wait returns a channel that is closed when the stream has ended.
func (e *ending) wait() <-chan struct{} {
	c := make(chan struct{})
	if e.done.CompareAndSwap(nil, &c) {
		return c
	}
	return *e.done.Load()
}

// markEnded says that the stream has ended. The clock has forgotten it before.
func (e *ending) markEnded() {
	if c := e.done.Swap(closed); c != nil {
		close(*c)
	}
}

// Lifetime draws how long a stream with this MaxAge lives: from 80 to 100 % of it, so
// that streams which began together do not end together.
func Lifetime(maxAge time.Duration) time.Duration {
	return maxAge - rand.N(maxAge/5+1)
}

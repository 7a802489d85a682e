package ws

import (
	"context"
	"sync"
)

// ahead is a queue of messages that were read before Read asked for them.
type ahead struct {
	budget  *budget
	arrived chan struct{} // has a token if a message was added since the last wait
	last    received      // how reading ended, once Read has returned that; guarded by reading.lock

	mu       sync.Mutex
	messages []received // guarded by mu
}

// ReadAhead starts a goroutine that reads the connection, so that control frames are
// answered and the peer's silence is noticed while no Read waits. Messages wait for
// Read. Once they have more than most bytes together (of memory, so that empty ones
// count too), reading stops until Read has returned some. If most is zero, it is
// MaxMessage; if negative, there is no limit.
//
// ReadAhead first waits for a Read that is under way. A second call does nothing. The
// goroutine ends with the connection.
func (c *Conn) ReadAhead(most int64) {
	c.reading.lock.lock()
	defer c.reading.lock.unlock()
	if c.reading.ahead != nil {
		return
	}
	if most == 0 {
		most = c.limit
	}
	c.reading.ahead = &ahead{budget: newBudget(most), arrived: make(chan struct{}, 1)}
	go c.reading.ahead.read(c, c.reading.pending)
	c.reading.pending = nil
}

// read reads until the connection has ended, first what is still pending.
func (a *ahead) read(c *Conn, pending <-chan received) {
	for {
		var r received
		if pending != nil {
			r, pending = <-pending, nil
		} else {
			r = c.next()
		}
		a.budget.acquire(r.size(), c.ctx.Done())
		a.add(r)
		if r.err != nil {
			return
		}
	}
}

func (a *ahead) add(r received) {
	a.mu.Lock()
	a.messages = append(a.messages, r)
	a.mu.Unlock()
	select {
	case a.arrived <- struct{}{}:
	default:
	}
}

// await returns the oldest message, or the error of ctx. The caller has locked
// reading.lock.
func (a *ahead) await(ctx context.Context) (received, error) {
	for a.last.err == nil {
		if r, ok := a.next(); ok {
			a.budget.release(r.size())
			if r.err != nil {
				a.last = r
			}
			return r, nil
		}
		select {
		case <-a.arrived:
		case <-ctx.Done():
			return received{}, context.Cause(ctx)
		}
	}
	return a.last, nil
}

// next removes the oldest message, and reports whether there was one.
func (a *ahead) next() (r received, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.messages) == 0 {
		a.messages = nil
		return r, false
	}
	r, a.messages[0] = a.messages[0], received{}
	a.messages = a.messages[1:]
	return r, true
}

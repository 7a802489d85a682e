package ws

import "context"

// ahead is what is read before somebody asks for it.
type ahead struct {
	queue *queue
	news  chan struct{} // has a token when something was put into the queue
	last  received      // the end, once it was taken
}

// ReadAhead is for those who do not always wait in a Read: the connection is read
// on, so that control frames are answered and the peer's silence is noticed at any
// time. Messages wait for Read, until they have more than most bytes together;
// then reading stops until they are fetched. If most is zero, MaxMessage; if
// negative, there is no limit. It waits for a Read that is under way, and has an
// effect once.
func (c *Conn) ReadAhead(most int64) {
	c.reading.wait()
	defer c.reading.letGo()
	if c.ahead != nil {
		return
	}
	if most == 0 {
		most = c.limit
	}
	c.ahead = &ahead{queue: newQueue(most), news: make(chan struct{}, 1)}
	go c.ahead.read(c, c.pending)
	c.pending = nil
}

// read reads until the connection has ended; first what is still to come of a read
// that was left behind.
func (a *ahead) read(c *Conn, pending <-chan received) {
	for {
		var r received
		if pending != nil {
			r, pending = <-pending, nil
		} else {
			r = c.next()
		}
		a.queue.put(r, c.ctx.Done())
		select {
		case a.news <- struct{}{}:
		default:
		}
		if r.err != nil {
			return
		}
	}
}

// await returns the oldest that waits. The caller holds Conn.reading.
func (a *ahead) await(ctx context.Context) (received, error) {
	for a.last.err == nil {
		if r, ok := a.queue.take(); ok {
			a.queue.letGo(r)
			if r.err != nil {
				a.last = r
			}
			return r, nil
		}
		select {
		case <-a.news:
		case <-ctx.Done():
			return received{}, context.Cause(ctx)
		}
	}
	return a.last, nil
}

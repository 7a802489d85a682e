package ws

import (
	"errors"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/ondemand"
)

// incomingMessage is a message of a Handler's client.
type incomingMessage struct {
	received
	wanted *delivery.TopicsRequest // nil, and no token: it is for receive
	token  *string                 // to renew the stream with
}

// receiver handles the messages of one client, in a goroutine that exists only while
// messages wait: for the one before them, or because their rate is limited.
type receiver struct {
	inbox  *inbox
	budget *budget
	queue  ondemand.Queue[incomingMessage]
	rate   *rate // owned by the goroutine that works; nil: no limit

	hurryOnce sync.Once
	hurried   chan struct{} // closed: messages do not wait for the rate any more

	mu       sync.Mutex    // guards what follows
	pending  int           // messages in the queue, and the one that is handled
	becoming chan struct{} // closed when pending becomes 0; nil if nothing waits for that
}

func newReceiver(in *inbox) *receiver {
	q := &receiver{inbox: in, budget: newBudget(in.most), hurried: make(chan struct{})}
	if in.rate > 0 {
		q.rate = &rate{perSecond: in.rate}
	}
	return q
}

// put appends a message, and waits until the budget allows it.
func (q *receiver) put(m incomingMessage) {
	q.budget.acquire(m.size(), q.inbox.conn.ctx.Done())
	q.mu.Lock()
	q.pending++
	q.mu.Unlock()
	q.queue.Put(m, 1, q)
}

// Work implements [ondemand.Worker].
func (q *receiver) Work() {
	for m, ok := q.queue.Take(); ok; m, ok = q.queue.Take() {
		q.await()
		q.handle(m)
	}
}

// handle handles a message in its turn. If receive ends the goroutine (runtime.Goexit, as
// FailNow of a test does), that is an error of receive's, and another goroutine goes on.
func (q *receiver) handle(m incomingMessage) {
	exits := true
	defer func() {
		if exits {
			q.inbox.fail(errExited)
			q.queue.Leave(1, q)
		}
		q.budget.release(m.size())
		q.handled()
	}()
	q.inbox.handle(m)
	exits = false
}

var errExited = errors.New("the function of Receive ended its goroutine")

// await waits until the rate allows a message, or the connection has ended.
func (q *receiver) await() {
	wait := q.rate.take(time.Now())
	if wait == 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-q.hurried:
	case <-q.inbox.conn.ctx.Done():
	}
}

// hurry lets the messages that wait be handled at once.
func (q *receiver) hurry() { q.hurryOnce.Do(func() { close(q.hurried) }) }

func (q *receiver) handled() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pending--; q.pending == 0 && q.becoming != nil {
		close(q.becoming)
		q.becoming = nil
	}
}

// idle returns a channel that is closed once no message waits or is handled.
func (q *receiver) idle() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.becoming != nil {
		return q.becoming
	}
	idle := make(chan struct{})
	if q.pending == 0 {
		close(idle)
	} else {
		q.becoming = idle
	}
	return idle
}

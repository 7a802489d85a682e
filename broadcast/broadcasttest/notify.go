package broadcasttest

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

func testNotifyUnarmed(t *testing.T, c Config) {
	b := c.Open(t)
	first := publish(t, b, "a", "0")
	fresh := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a"}})
	resumed := resume(t, b, broadcast.MakeID(first.Epoch(), first.Seq()-1), "a")
	lost := resume(t, b, broadcast.MakeID(1, 0), "a")
	check := func(when string) {
		t.Helper()
		for name, s := range map[string]*stream{"fresh": fresh, "resumed": resumed, "lost": lost} {
			require.Zero(t, s.calls.Load(), "calls of Notify %s, of the %s subscription", when, name)
		}
	}
	publish(t, b, "a", "1")
	arrive(t, b, "a", publish(t, b, "a", "2"))
	check("before the first Poll")
	ms, err := resumed.poll(1)
	require.NoError(t, err)
	if len(ms) == 0 {
		return // the Broadcaster has not located the position yet: this was an empty Poll
	}
	arrive(t, b, "a", publish(t, b, "a", "3"))
	check("before an empty Poll")
}

func testNotify(t *testing.T, c Config) {
	b := c.Open(t)
	for _, topics := range [][]string{{"a"}, {"a", "b", "c"}} {
		s := listen(t, b, topics...)
		for i := range 30 {
			s.forgetNotify()
			for range 1 + i%3 {
				s.empty() // further empty Polls change nothing
			}
			text := fmt.Sprint(i)
			id := publish(t, b, topics[i%len(topics)], text)
			waitFor(t, s.notified, "a call of Notify")
			require.Equal(t, []string{text}, texts(s.until(id)))
		}
		// A gap calls Notify too.
		s.forgetNotify()
		s.empty()
		ids := publishMany(t, b, "a", c.Keep+5)
		waitFor(t, s.notified, "a call of Notify")
		s.until(ids[len(ids)-1])
		s.close()
	}
}

func testNoLostWakeUp(t *testing.T, c Config) {
	b := c.Open(t)
	for _, topics := range [][]string{{"a"}, {"a", "b", "c"}} {
		s := listen(t, b, topics...)
		p := startPacedPublisher(t, b, topics)
		for i := 0; ; i++ {
			ms, err := s.next()
			require.NoError(t, err)
			require.Len(t, ms, 1)
			if string(ms[0].Data) == "last" {
				break
			}
			require.Equal(t, fmt.Sprint(i), string(ms[0].Data))
			p.read.Add(1)
		}
		s.empty()
		s.close()
	}
}

// pacedPublisher publishes each message a moment after the previous one was read, which is
// about the time of the empty Poll that follows. The moment varies.
type pacedPublisher struct {
	read      atomic.Int64 // how many messages were read
	quit      atomic.Bool  // at the end of the case
	publisher sync.WaitGroup
}

func startPacedPublisher(t *testing.T, b broadcast.Broadcaster, topics []string) *pacedPublisher {
	p := &pacedPublisher{}
	t.Cleanup(func() {
		p.quit.Store(true)
		p.publisher.Wait()
	})
	p.publisher.Go(func() {
		began := time.Now()
		for i := 0; ; i++ {
			text := fmt.Sprint(i)
			if i == 20_000 || i >= 200 && time.Since(began) > 200*time.Millisecond {
				text = "last"
			}
			for spin := 1; p.read.Load() < int64(i); spin++ {
				if p.quit.Load() {
					return
				}
				if spin%50 == 0 {
					runtime.Gosched()
				}
			}
			for range i % 500 {
				p.quit.Load()
			}
			if _, ok := tryPublish(t, b, topics[i%len(topics)], text); !ok || text == "last" {
				return
			}
		}
	})
	return p
}

// notifyBlocker keeps Notify from returning, so that a case can act while Notify runs. A real
// Notify must not block; here it shows which locks its caller has.
type notifyBlocker struct {
	t          *testing.T
	entered    chan struct{} // closed when Notify is called
	released   chan struct{} // closed when Notify may return
	enter      sync.Once
	leave      sync.Once
	publishers sync.WaitGroup
}

func newNotifyBlocker(t *testing.T) *notifyBlocker {
	n := &notifyBlocker{t: t, entered: make(chan struct{}), released: make(chan struct{})}
	t.Cleanup(func() {
		n.release()
		n.publishers.Wait()
	})
	return n
}

// notify is what the case's Notify calls.
func (n *notifyBlocker) notify() {
	n.enter.Do(func() { close(n.entered) })
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-n.released:
	case <-timer.C:
		assert.Fail(n.t, "too slow", "Notify was blocked for %v", patience)
	}
}

// release lets Notify return.
func (n *notifyBlocker) release() { n.leave.Do(func() { close(n.released) }) }

// publish publishes in the background. It returns a channel that gets the ID.
func (n *notifyBlocker) publish(b broadcast.Broadcaster, topic, data string) <-chan broadcast.ID {
	published := make(chan broadcast.ID, 1)
	n.publishers.Go(func() {
		id, _ := tryPublish(n.t, b, topic, data)
		published <- id
	})
	return published
}

func testNotifyHoldsNoLock(t *testing.T, c Config) {
	b := c.Open(t)
	for _, topics := range [][]string{{"a"}, {"a", "b"}} {
		n := newNotifyBlocker(t)
		s := subscribe(t, b, broadcast.SubscribeOptions{Topics: topics, Notify: n.notify})
		s.empty()
		published := n.publish(b, "a", "x")
		waitFor(t, n.entered, "a call of Notify")
		within(t, "Poll, Position and Close during Notify", func() {
			buf := make([]*broadcast.Message, 8)
			for range 3 {
				s.sub.Poll(buf)
				s.sub.Position()
			}
			s.sub.Close()
		})
		n.release()
		require.False(t, (<-published).IsZero(), "the ID of the published message")
	}
}

func testNotifyDuringClose(t *testing.T, c Config) {
	b := c.Open(t)
	other := listen(t, b, "a")
	for i := range 100 {
		var closed atomic.Bool
		var after atomic.Int64
		s := subscribe(t, b, broadcast.SubscribeOptions{Topics: []string{"a", "b"}, Notify: func() {
			if closed.Load() {
				after.Add(1)
			}
		}})
		s.empty()
		var closers sync.WaitGroup
		closers.Go(func() {
			for range i % 20 {
				runtime.Gosched()
			}
			s.sub.Close()
			closed.Store(true)
		})
		publish(t, b, "a", "1")
		within(t, "Close", closers.Wait)
		publish(t, b, "a", "2")
		other.until(publish(t, b, "a", "3"))
		require.LessOrEqual(t, after.Load(), int64(1), "calls of Notify after Close")
	}
}

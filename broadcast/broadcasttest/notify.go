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
		return // it does not know yet where it goes on, so this was an empty Poll
	}
	arrive(t, b, "a", publish(t, b, "a", "3"))
	check("before an empty Poll")
}

func testNotify(t *testing.T, c Config) {
	b := c.Open(t)
	for _, topics := range [][]string{{"a"}, {"a", "b", "c"}} {
		s := listen(t, b, topics...)
		for i := range 30 {
			s.forget()
			for range 1 + i%3 {
				s.empty() // several of them change nothing
			}
			text := fmt.Sprint(i)
			id := publish(t, b, topics[i%len(topics)], text)
			waitFor(t, s.news, "a call of Notify")
			require.Equal(t, []string{text}, texts(s.until(id)))
		}
		// Where a loss is told there is a call, too.
		s.forget()
		s.empty()
		ids := publishMany(t, b, "a", c.Keep+5)
		waitFor(t, s.news, "a call of Notify")
		s.until(ids[len(ids)-1])
		s.close()
	}
}

func testNoLostWakeUp(t *testing.T, c Config) {
	b := c.Open(t)
	for _, topics := range [][]string{{"a"}, {"a", "b", "c"}} {
		s := listen(t, b, topics...)
		p := newPursuit(t, b, topics)
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

// pursuit publishes each message a moment after the one before was read, and so
// at about the time of the empty Poll that follows; each time another moment.
type pursuit struct {
	read      atomic.Int64
	quit      atomic.Bool
	publisher sync.WaitGroup
}

func newPursuit(t *testing.T, b broadcast.Broadcaster, topics []string) *pursuit {
	p := &pursuit{}
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

// meeting lets the case do something while Notify runs. A Notify must not wait as
// this one does; here it shows in what state the publisher calls it.
type meeting struct {
	t            *testing.T
	begun, ended chan struct{}
	begin, leave sync.Once
	publishers   sync.WaitGroup
}

func newMeeting(t *testing.T) *meeting {
	m := &meeting{t: t, begun: make(chan struct{}), ended: make(chan struct{})}
	t.Cleanup(func() {
		m.end()
		m.publishers.Wait()
	})
	return m
}

// attend is to be called by Notify.
func (m *meeting) attend() {
	m.begin.Do(func() { close(m.begun) })
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-m.ended:
	case <-timer.C:
		assert.Fail(m.t, "too slow", "waited %v for what is done while Notify runs", patience)
	}
}

func (m *meeting) end() { m.leave.Do(func() { close(m.ended) }) }

// publish publishes in the background; the ID comes when it has returned.
func (m *meeting) publish(b broadcast.Broadcaster, topic, data string) <-chan broadcast.ID {
	published := make(chan broadcast.ID, 1)
	m.publishers.Go(func() {
		id, _ := tryPublish(m.t, b, topic, data)
		published <- id
	})
	return published
}

func testNotifyHoldsNoLock(t *testing.T, c Config) {
	b := c.Open(t)
	for _, topics := range [][]string{{"a"}, {"a", "b"}} {
		m := newMeeting(t)
		s := subscribe(t, b, broadcast.SubscribeOptions{Topics: topics, Notify: m.attend})
		s.empty()
		published := m.publish(b, "a", "x")
		waitFor(t, m.begun, "a call of Notify")
		within(t, "Poll, Position and Close during Notify", func() {
			buf := make([]*broadcast.Message, 8)
			for range 3 {
				s.sub.Poll(buf)
				s.sub.Position()
			}
			s.sub.Close()
		})
		m.end()
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

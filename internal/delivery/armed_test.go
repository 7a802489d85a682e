package delivery_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

// counted is a Hub that counts how often its subscriptions are polled. A Poll that armed Notify
// may be asked to do what a goroutine does at that moment.
type counted struct {
	*broadcast.Hub
	meanwhile func(sub broadcast.Subscription, n int, armed bool)
	bare      bool // Position stays where it was before messages that have armed Notify

	mu           sync.Mutex
	polls, armed int
}

func (c *counted) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	sub, err := c.Hub.Subscribe(ctx, o)
	if err != nil {
		return nil, err
	}
	return &countedSubscription{sub.(armer), c, sub.Position()}, nil
}

// armer is what a Hub's Subscription is.
type armer interface {
	broadcast.Subscription
	broadcast.Finisher
	broadcast.TopicSetter
	PollAndArm(buf []*broadcast.Message) (n int, armed bool, err error)
}

type countedSubscription struct {
	armer
	counted  *counted
	position broadcast.ID
}

func (s *countedSubscription) PollAndArm(buf []*broadcast.Message) (n int, armed bool, err error) {
	n, armed, err = s.armer.PollAndArm(buf)
	if s.counted.meanwhile != nil {
		s.counted.meanwhile(s, n, armed)
	}
	if !s.counted.bare || n == 0 {
		s.position = s.armer.Position()
	}
	s.counted.mu.Lock()
	defer s.counted.mu.Unlock()
	s.counted.polls++
	if n > 0 && armed {
		s.counted.armed++
	}
	return n, armed, err
}

func (s *countedSubscription) Position() broadcast.ID { return s.position }

// take returns how often streams have polled since the last call, and how often that armed
// Notify with messages.
func (c *counted) take() (polls, armed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	polls, armed = c.polls, c.armed
	c.polls, c.armed = 0, 0
	return polls, armed
}

// A stream that keeps up polls once for each message.
func TestOnePollForEachMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &counted{Hub: &broadcast.Hub{}}
		defer hub.Close()
		conn := connect(t, engine(hub, nil), &transport{}, "/")
		synctest.Wait()
		conn.take()
		hub.take()
		for i := range 5 {
			id := publish(t, hub.Hub, "a", "text")
			synctest.Wait()
			assert.Equal(t, []string{"text " + seq(id)}, conn.take())
			polls, armed := hub.take()
			assert.Equal(t, [2]int{1, 1}, [2]int{polls, armed}, "message %d", i)
		}
	})
}

// A stream whose Notify is armed polls again all the same if it owes something: what is
// asked for while it polls, or a position.
func TestArmedStreamOwesSomething(t *testing.T) {
	for _, test := range []struct {
		name      string
		bare      bool
		meanwhile func(t *testing.T, hub *broadcast.Hub, stream *delivery.Stream)
		want      []string
	}{
		{name: "the position after messages without IDs", bare: true, want: []string{"text", "position 1"}},
		{name: "the last messages", meanwhile: func(t *testing.T, hub *broadcast.Hub, stream *delivery.Stream) {
			publish(t, hub, "a", "later")
			stream.End(delivery.Restart)
		}, want: []string{"text 1", "later 2", "end: restart"}},
		{name: "an end at once", meanwhile: func(_ *testing.T, _ *broadcast.Hub, stream *delivery.Stream) {
			stream.End(delivery.Expired)
		}, want: []string{"text 1", "end: expired"}},
		{name: "an answer", meanwhile: func(_ *testing.T, _ *broadcast.Hub, stream *delivery.Stream) {
			stream.Change(delivery.TopicsRequest{Topics: []string{"b"}})
		}, want: []string{"text 1", "topics 1"}},
		{name: "a message", meanwhile: func(t *testing.T, hub *broadcast.Hub, _ *delivery.Stream) {
			publish(t, hub, "a", "later")
		}, want: []string{"text 1", "later 2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub, tr := &counted{Hub: &broadcast.Hub{}, bare: test.bare}, &transport{}
				defer hub.Close()
				grant := &fanfare.Grant{Topics: []string{"a"}, Change: func(topics []string) (*fanfare.Grant, error) {
					return &fanfare.Grant{Topics: topics}, nil
				}}
				conn := connect(t, engine(hub, grant), tr, "/")
				synctest.Wait()
				conn.take()
				once := sync.OnceFunc(func() { test.meanwhile(t, hub.Hub, tr.stream) })
				hub.meanwhile = func(_ broadcast.Subscription, n int, armed bool) {
					if n > 0 && armed && test.meanwhile != nil {
						once()
					}
				}
				publish(t, hub.Hub, "a", "text")
				synctest.Wait()
				assert.Equal(t, test.want, conn.take())
				tr.stream.End(delivery.Expired)
				synctest.Wait()
				_, armed := hub.take()
				assert.NotZero(t, armed, "what is tried here has happened")
			})
		})
	}
}

package delivery_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

// The topics that a change adds begin before the answer, and the others go on.
func TestNewTopicsBegin(t *testing.T) {
	for _, lobby := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var hub broadcast.Hub
			defer hub.Close()
			publish(t, &hub, "b", "old b")
			publish(t, &hub, "a", "old a")
			grant := &fanfare.Grant{Topics: []string{"a"}, Beginning: true}
			grant.Change = func(topics []string) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: topics, Change: grant.Change}, nil
			}
			tr := &transport{}
			want := []string{"begin ?", "old a", "ready 2"}
			if lobby {
				grant.Topics = nil
				want = []string{"ready 2"}
			}
			conn := connect(t, engine(&hub, grant), tr, "/")
			synctest.Wait()
			require.Equal(t, want, conn.take())
			if lobby {
				tr.stream.Change(delivery.TopicsRequest{Topics: []string{"a"}})
				synctest.Wait()
				require.Equal(t, []string{"begin ?", "old a", "topics 2"}, conn.take())
			}
			tr.stream.Change(delivery.TopicsRequest{Topics: []string{"a", "b"}})
			synctest.Wait()
			require.Equal(t, []string{"begin ?", "old b", "topics 2"}, conn.take())
			publish(t, &hub, "a", "a")
			publish(t, &hub, "b", "b")
			synctest.Wait()
			require.Equal(t, []string{"a 3", "b 4"}, conn.take())
			tr.stream.Change(delivery.TopicsRequest{Topics: []string{"b"}})
			synctest.Wait()
			require.Equal(t, []string{"topics 4"}, conn.take(), "nothing begins")
			tr.stream.Change(delivery.TopicsRequest{})
			synctest.Wait()
			require.Equal(t, []string{"topics 4"}, conn.take(), "no topics do not begin")
			tr.stream.Change(delivery.TopicsRequest{Topics: []string{"b"}})
			synctest.Wait()
			require.Equal(t, []string{"begin ?", "old b", "b", "topics 4"}, conn.take())
			tr.stream.Change(delivery.TopicsRequest{Topics: make([]string, 1001)})
			synctest.Wait()
			require.Equal(t, []string{"topics 4"}, conn.take(), "a refusal")
			tr.stream.End(delivery.Restart)
			synctest.Wait()
		})
	}
}

// hesitant is a Broadcaster whose subscriptions begin new topics one Poll late, as a Hub's do
// that still asks its journal where they are.
type hesitant struct{ broadcast.Broadcaster }

func (h hesitant) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	sub, err := h.Broadcaster.Subscribe(ctx, o)
	return &hesitantSubscription{Subscription: sub, notify: o.Notify}, err
}

type hesitantSubscription struct {
	broadcast.Subscription
	notify    func()
	hesitates bool
}

func (s *hesitantSubscription) SetTopics(topics []string) error {
	s.hesitates = true
	return s.Subscription.(broadcast.TopicSetter).SetTopics(topics)
}

func (s *hesitantSubscription) Poll(buf []*broadcast.Message) (int, error) {
	if s.hesitates {
		s.hesitates = false
		go s.notify()
		return 0, nil
	}
	return s.Subscription.Poll(buf)
}

// The answer to a change never comes before the new topics have begun: with it a client would
// resume, and miss what they keep.
func TestAnswerWaitsForTheBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		defer hub.Close()
		publish(t, &hub, "b", "old b")
		grant := &fanfare.Grant{Topics: []string{"a"}, Beginning: true}
		grant.Change = func(topics []string) (*fanfare.Grant, error) {
			return &fanfare.Grant{Topics: topics, Change: grant.Change}, nil
		}
		tr := &transport{}
		conn := connect(t, engine(hesitant{&hub}, grant), tr, "/")
		synctest.Wait()
		require.Equal(t, []string{"begin ?", "ready 1"}, conn.take())
		tr.stream.Change(delivery.TopicsRequest{Topics: []string{"a", "b"}})
		synctest.Wait()
		require.Equal(t, []string{"begin ?", "old b", "topics 1"}, conn.take())
		// A topic that leaves before it has begun does not.
		conn.block = make(chan struct{})
		publish(t, &hub, "a", "blocks")
		synctest.Wait()
		tr.stream.Change(delivery.TopicsRequest{Topics: []string{"a"}})
		close(conn.block)
		synctest.Wait()
		require.Equal(t, []string{"blocks 2", "topics 2"}, conn.take())
		tr.stream.End(delivery.Restart)
		synctest.Wait()
	})
}

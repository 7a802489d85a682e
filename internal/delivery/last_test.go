package delivery_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

// The Last messages go out as much at a time as one write takes, so that a client that does
// not read pins no more of them. What else asks the stream for a write waits for the
// position: a heartbeat, a change of topics, a message.
func TestLastGoesOutInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := broadcast.Hub{Keep: 100}
		defer hub.Close()
		big := strings.Repeat("x", 20<<10)
		for range 20 {
			publish(t, &hub, "a", big)
		}
		encoded := 0
		c := codec(true)
		message := c.Message
		c.Message = func(m *broadcast.Message, id broadcast.ID) ([]byte, error) {
			encoded++
			return message(m, id)
		}
		grant := &fanfare.Grant{Topics: []string{"a"}, Last: 20}
		grant.Change = func(topics []string) (*fanfare.Grant, error) { return &fanfare.Grant{Topics: topics}, nil }
		tr := &transport{mode: delivery.Mode{Codec: c, Detached: true}, every: time.Second}
		block := make(chan struct{})
		tr.begin = func(o *delivery.Opening) error {
			tr.conn.block = block
			o.Start(tr.conn, nil, 0)
			return nil
		}
		conn := connect(t, engine(&hub, grant), tr, "/?heartbeat=1")
		synctest.Wait()
		require.Less(t, encoded, 8, "as many as one write takes, and those that the next Poll returns")
		tr.stream.Change(delivery.TopicsRequest{Topics: []string{"b"}})
		time.Sleep(3500 * time.Millisecond)
		publish(t, &hub, "a", "live")
		close(block)
		synctest.Wait()
		var got []string
		for _, line := range conn.take() {
			if !strings.HasPrefix(line, "x") {
				got = append(got, line)
			}
		}
		require.Equal(t, 20+1, encoded)
		require.Equal(t, []string{"ready 0", "live 1", "topics 1"}, got)
	})
}

// A stream that is asked to end among its Last messages sends the others and its position
// first: without them a client that comes back would never get them. That holds for a
// Subscription without Finish too, and for a client that polls.
func TestEndAmongLastMessages(t *testing.T) {
	for _, finishes := range []bool{true, false} {
		for _, polls := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				hub := broadcast.Hub{Keep: 100}
				defer hub.Close()
				for range 9 {
					publish(t, &hub, "a", strings.Repeat("x", 40<<10))
				}
				var b broadcast.Broadcaster = &hub
				if !finishes {
					b = unfinished{&hub}
				}
				tr := &transport{mode: delivery.Mode{Detached: !polls}}
				block := make(chan struct{})
				tr.begin = func(o *delivery.Opening) error {
					tr.conn.block = block
					if polls {
						o.Poll(tr.conn, nil)
						return nil
					}
					o.Start(tr.conn, nil, 0)
					return nil
				}
				done := make(chan *wire)
				go func() {
					done <- connect(t, engine(b, &fanfare.Grant{Topics: []string{"a"}, Last: 9}), tr, "/")
				}()
				synctest.Wait()
				tr.stream.End(delivery.Restart)
				close(block)
				conn := <-done
				<-conn.ended
				got := conn.take()
				require.Len(t, got, 9+2)
				require.Equal(t, "ready 9", got[9])
			})
		}
	}
}

// unfinished is a Broadcaster whose Subscriptions have the methods of the interface alone.
type unfinished struct{ broadcast.Broadcaster }

func (u unfinished) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	sub, err := u.Broadcaster.Subscribe(ctx, o)
	return struct{ broadcast.Subscription }{sub}, err
}

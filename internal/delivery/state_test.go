package delivery_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

// set publishes a value of a Key on topic a, whose text is the Key and a number.
func set(t *testing.T, hub *broadcast.Hub, key string, number int) {
	t.Helper()
	_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Key: key, Data: fmt.Append(nil, key, "=", number)})
	require.NoError(t, err)
}

// A poll that fits has the Keys with their IDs.
func TestKeysThatFitHaveIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		defer hub.Close()
		conn := connect(t, engine(&hub, nil), &transport{}, "/")
		synctest.Wait()
		set(t, &hub, "x", 1)
		set(t, &hub, "y", 1)
		synctest.Wait()
		assert.Equal(t, []string{"ready 0", "x=1 1", "y=1 2"}, conn.take())
	})
}

// The Keys of a round that does not fit have no IDs, and the position follows them at once: a
// client that is cut among them resumes before all of them.
func TestKeysOfARoundHaveNoIDs(t *testing.T) {
	for _, events := range []bool{false, true} {
		for _, polls := range []bool{false, true} {
			t.Run(fmt.Sprintf("events %v, polls %v", events, polls), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var hub broadcast.Hub
					defer hub.Close()
					first := publish(t, &hub, "b", "one")
					for i := range 49 {
						set(t, &hub, fmt.Sprint("key", i), 1)
					}
					want := []string{"ready 1"}
					for i := range 49 {
						want = append(want, fmt.Sprintf("key%d=1", i))
					}
					if events {
						publish(t, &hub, "a", "event")
						want = append(want, "event 1")
					} else {
						want = append(want, "position 0")
					}
					tr := &transport{}
					if polls {
						tr.begin = func(o *delivery.Opening) error { o.Poll(tr.conn, nil); return nil }
						want = append(want, "end: polled")
					}
					conn := connect(t, engine(&hub, nil), tr, "/?lastEventId="+first.String())
					synctest.Wait()
					assert.Equal(t, want, conn.take())
					for _, size := range conn.sizes {
						assert.LessOrEqual(t, size, delivery.MaxWrite)
					}
				})
			})
		}
	}
}

// A position is written while the next round goes on, however many Keys keep changing.
func TestPositionIsWrittenBetweenRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		defer hub.Close()
		first := publish(t, &hub, "b", "one")
		change := func(round int) {
			for i := range 300 {
				set(t, &hub, fmt.Sprint("key", i), round)
			}
		}
		change(1)
		rounds, changing := 1, false
		grant := &fanfare.Grant{Topics: []string{"a"}, Filter: func(m *broadcast.Message) bool {
			if strings.HasPrefix(string(m.Data), "key299=") && !changing && rounds < 5 {
				changing = true
				rounds++
				change(rounds)
				changing = false
			}
			return true
		}}
		conn := connect(t, engine(&hub, grant), &transport{}, "/?lastEventId="+first.String())
		synctest.Wait()
		positions := 0
		for _, line := range conn.take() {
			if strings.HasPrefix(line, "position ") {
				positions++
			}
		}
		assert.GreaterOrEqual(t, positions, 4)
	})
}

// A stream with a Beginning starts with the notice of it, which resumes as a loss, then all that
// is kept without IDs, then the position.
func TestBeginning(t *testing.T) {
	for _, target := range []string{"/", "/?lastEventId=1-0", "/?lastEventId=nonsense"} {
		synctest.Test(t, func(t *testing.T) {
			var hub broadcast.Hub
			defer hub.Close()
			set(t, &hub, "x", 1)
			publish(t, &hub, "a", "event")
			set(t, &hub, "x", 2)
			set(t, &hub, "y", 1)
			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", Key: "y", Removed: true})
			require.NoError(t, err)
			e := engine(&hub, &fanfare.Grant{Topics: []string{"a"}, Beginning: true, Last: 1})
			conn := connect(t, e, &transport{prologue: []byte("head\n")}, target)
			synctest.Wait()
			assert.Equal(t, []string{"head", "begin ?", "event", "x=2", "ready 5"}, conn.take())
			set(t, &hub, "y", 2)
			synctest.Wait()
			assert.Equal(t, []string{"y=2 6"}, conn.take())
			assert.Zero(t, e.Stats().Gaps)
			empty := connect(t, engine(&hub, &fanfare.Grant{Topics: []string{"nothing"}, Beginning: true}), &transport{}, target)
			synctest.Wait()
			assert.Equal(t, []string{"begin ?", "ready 6"}, empty.take())
		})
	}
}

// A poll of a client that begins ends after the position, not before, and one that is asked to
// end among its beginning too.
func TestPollOfABeginning(t *testing.T) {
	for _, finishes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var hub broadcast.Hub
			defer hub.Close()
			for i := range 99 {
				set(t, &hub, fmt.Sprint("key", i), 1)
			}
			var b broadcast.Broadcaster = &hub
			if !finishes {
				b = unfinished{&hub}
			}
			e := engine(b, &fanfare.Grant{Topics: []string{"a"}, Beginning: true})
			tr := &transport{}
			tr.begin = func(o *delivery.Opening) error { o.Poll(tr.conn, nil); return nil }
			conn := connect(t, e, tr, "/")
			got := conn.take()
			require.Len(t, got, 1+99+2)
			require.Equal(t, []string{"ready 9", "end: polled"}, got[100:])

			ends := &transport{}
			ends.begin = func(o *delivery.Opening) error {
				o.Stream() // it is asked to end before its first turn
				o.Start(ends.conn, nil, 0)
				ends.stream.End(delivery.Restart)
				return nil
			}
			ends.mode.Detached = true
			conn = connect(t, e, ends, "/")
			<-conn.ended
			got = conn.take()
			require.Len(t, got, 1+99+2)
			require.Equal(t, []string{"ready 9", "end: restart"}, got[100:])
		})
	}
}

// A stream with a Beginning that loses something begins again, and gets no gap. A wire that
// cannot say so is closed.
func TestBeginningAgain(t *testing.T) {
	for _, sent := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			hub := broadcast.Hub{Keep: 2}
			defer hub.Close()
			set(t, &hub, "x", 1)
			e := engine(&hub, &fanfare.Grant{Topics: []string{"a"}, Beginning: true})
			tr := &transport{mode: delivery.Mode{Codec: codec(sent)}}
			conn := connect(t, e, tr, "/")
			synctest.Wait()
			if sent {
				require.Equal(t, []string{"begin ?", "x=1", "ready 1"}, conn.take())
			} else {
				require.Equal(t, []string{"x=1", "ready 1"}, conn.take(), "a client that has nothing need not know")
			}
			block := make(chan struct{})
			conn.block = block
			publish(t, &hub, "a", "blocks")
			synctest.Wait()
			publish(t, &hub, "a", "1", "2", "3", "4")
			close(block)
			synctest.Wait()
			if sent {
				require.Equal(t, []string{"blocks 2", "begin ?", "3", "4", "x=1", "position 6"}, conn.take())
				require.EqualValues(t, 1, e.Stats().Gaps)
			} else {
				require.Equal(t, []string{"blocks 2", "end: gap not sent"}, conn.take())
			}
		})
	}
}

// A stream that begins three times before it has caught up ends. That bounds the calls of
// Snapshot as well.
func TestSlowStreamEnds(t *testing.T) {
	for _, snapshot := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			hub := broadcast.Hub{Keep: 30}
			defer hub.Close()
			publish(t, &hub, "a", "one")
			calls := 0
			overrun := func() {
				if calls++; calls < 20 {
					for range 40 {
						publish(t, &hub, "a", "more")
					}
				}
			}
			grant := &fanfare.Grant{Topics: []string{"a"}, Beginning: !snapshot}
			if snapshot {
				grant.Snapshot = func(context.Context) ([]broadcast.Message, error) { overrun(); return nil, nil }
			} else {
				grant.Filter = func(*broadcast.Message) bool { overrun(); return true }
			}
			conn := connect(t, engine(&hub, grant), &transport{}, "/")
			<-conn.ended
			begins := 0
			got := conn.take()
			for _, line := range got {
				if line == "begin ?" {
					begins++
				}
			}
			require.Equal(t, 3, begins)
			require.Equal(t, "end: slow", got[len(got)-1])
			if snapshot {
				require.Equal(t, 3, calls)
			}
		})
	}
}

// With a Beginning and a Snapshot, the Snapshot takes the place of a beginning that is partial.
func TestSnapshotOfAPartialBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := broadcast.Hub{Keep: 2}
		defer hub.Close()
		calls := 0
		grant := &fanfare.Grant{Topics: []string{"a"}, Beginning: true, Snapshot: func(context.Context) ([]broadcast.Message, error) {
			calls++
			return []broadcast.Message{{Topic: "a", Data: []byte("state")}}, nil
		}}
		e := engine(&hub, grant)
		publish(t, &hub, "a", "1", "2")
		whole := connect(t, e, &transport{}, "/")
		synctest.Wait()
		require.Equal(t, []string{"begin ?", "1", "2", "ready 2"}, whole.take())
		require.Zero(t, calls)
		publish(t, &hub, "a", "3")
		partial := connect(t, e, &transport{}, "/")
		synctest.Wait()
		require.Equal(t, []string{"begin ?", "state", "ready 3"}, partial.take())
		require.Equal(t, 1, calls)
		publish(t, &hub, "a", "4")
		synctest.Wait()
		require.Equal(t, []string{"3 3", "4 4"}, whole.take())
		require.Equal(t, []string{"4 4"}, partial.take())
	})
}

// A stream ends when all its topics have. A client that comes back to where nothing follows is
// refused with 204 where the transport wants that.
func TestEndOfTopics(t *testing.T) {
	for _, beginning := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var hub broadcast.Hub
			defer hub.Close()
			e := engine(&hub, &fanfare.Grant{Topics: []string{"a", "b"}, Beginning: beginning})
			conn := connect(t, e, &transport{}, "/")
			synctest.Wait()
			conn.take()
			end := func(topic string) (id broadcast.ID) {
				id, err := hub.Publish(t.Context(), broadcast.Message{Topic: topic, End: true, Data: []byte("last of " + topic)})
				require.NoError(t, err)
				return id
			}
			end("a")
			synctest.Wait()
			require.Equal(t, []string{"last of a 1"}, conn.take())
			publish(t, &hub, "c", "x")
			id := end("b")
			<-conn.ended
			require.Equal(t, []string{"last of b 3", "end 3", "end: ended"}, conn.take())
			synctest.Wait() // a stream is counted once its transport has left
			require.EqualValues(t, 1, e.Stats().Ended["ended"])

			fresh := connect(t, e, &transport{}, "/")
			<-fresh.ended
			want := []string{"ready 3", "end 3", "end: ended"}
			if beginning {
				want = []string{"begin ?", "last of a", "last of b", "ready 3", "end 3", "end: ended"}
			}
			require.Equal(t, want, fresh.take())

			w := httptest.NewRecorder()
			e.ServeHTTP(w, httptest.NewRequest("GET", "/?lastEventId="+id.String(), nil), &transport{mode: delivery.Mode{RefuseEnded: true}})
			require.Equal(t, http.StatusNoContent, w.Code)
			again := connect(t, e, &transport{}, "/?lastEventId="+id.String())
			<-again.ended
			require.Equal(t, []string{"ready 3", "end 3", "end: ended"}, again.take())

			_, err := hub.Publish(t.Context(), broadcast.Message{Topic: "a", First: true, Data: []byte("anew")})
			require.NoError(t, err)
			back := connect(t, e, &transport{}, "/?lastEventId="+id.String())
			synctest.Wait()
			require.Equal(t, []string{"ready 3", "anew 4"}, back.take())
		})
	}
}

// closing is a Broadcaster whose subscriptions are closed after their first Poll.
type closing struct{ broadcast.Broadcaster }

func (c closing) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	sub, err := c.Broadcaster.Subscribe(ctx, o)
	return &closingSubscription{Subscription: sub}, err
}

type closingSubscription struct {
	broadcast.Subscription
	polls int
}

func (s *closingSubscription) Poll(buf []*broadcast.Message) (int, error) {
	if s.polls++; s.polls > 1 {
		return 0, broadcast.ErrClosed
	}
	return s.Subscription.Poll(buf)
}

// A stream that ends within its beginning leaves the client with a position that begins again,
// whatever it resumed from.
func TestEndWithinABeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := broadcast.Hub{Keep: 30}
		defer hub.Close()
		first := publish(t, &hub, "a", "one")
		for range 40 {
			publish(t, &hub, "a", "more")
		}
		conn := connect(t, engine(closing{&hub}, &fanfare.Grant{Topics: []string{"a"}, Beginning: true}), &transport{}, "/?lastEventId="+first.String())
		<-conn.ended
		got := conn.take()
		require.Equal(t, "begin ?", got[0])
		require.Equal(t, []string{"ready ?", "end: restart"}, got[len(got)-2:])
	})
}

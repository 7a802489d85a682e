package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
)

// A stream begins with its position, and sends what is published after it.
func TestStreamBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		publish(t, &hub, "a", "before")
		conn := connect(t, engine(&hub, nil), &transport{prologue: []byte("head\n")}, "/")
		synctest.Wait()
		assert.Equal(t, []string{"head", "ready 1"}, conn.take())
		publish(t, &hub, "a", "one", "two")
		synctest.Wait()
		assert.Equal(t, []string{"one 2", "two 3"}, conn.take())
		hub.Close()
		synctest.Wait()
		assert.Equal(t, []string{"end: restart"}, conn.take())
	})
}

// A heartbeat follows each interval without a write. It sends the position if that has
// moved, and only after everything that was polled.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		defer hub.Close()
		grant := &fanfare.Grant{Topics: []string{"a"}, Filter: func(m *broadcast.Message) bool { return string(m.Data) != "secret" }}
		conn := connect(t, engine(&hub, grant), &transport{every: time.Second}, "/")
		time.Sleep(1500 * time.Millisecond)
		assert.Equal(t, []string{"ready 0", "beat"}, conn.take())
		publish(t, &hub, "a", "one")
		time.Sleep(900 * time.Millisecond)
		assert.Equal(t, []string{"one 1"}, conn.take(), "a heartbeat is not due while something is written")
		publish(t, &hub, "a", "secret")
		time.Sleep(time.Second)
		assert.Equal(t, []string{"position 2"}, conn.take(), "what a Filter drops moves the position")
		time.Sleep(time.Second)
		assert.Equal(t, []string{"beat"}, conn.take())
	})
}

// With heartbeat=1 each heartbeat sends the position.
func TestHeartbeatWithPosition(t *testing.T) {
	for _, value := range []string{"1", "true"} {
		synctest.Test(t, func(t *testing.T) {
			var hub broadcast.Hub
			defer hub.Close()
			conn := connect(t, engine(&hub, nil), &transport{every: time.Second}, "/?heartbeat="+value)
			time.Sleep(2500 * time.Millisecond)
			assert.Equal(t, []string{"ready 0", "position 0", "position 0"}, conn.take())
		})
	}
}

func TestEnds(t *testing.T) {
	for _, test := range []struct {
		name  string
		grant func() *fanfare.Grant
		every transport
		wait  time.Duration
		want  string
	}{
		{"after MaxAge at the latest", nil, transport{maxAge: time.Minute}, time.Minute, "restart"},
		{"when the Grant expires, if that is before", func() *fanfare.Grant {
			return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(10 * time.Second)}
		}, transport{maxAge: time.Minute}, 10 * time.Second, "expired"},
		{"after MaxAge, if that is before", func() *fanfare.Grant {
			return &fanfare.Grant{Topics: []string{"a"}, Expires: time.Now().Add(time.Hour)}
		}, transport{maxAge: time.Minute}, time.Minute, "restart"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				var grant *fanfare.Grant
				if test.grant != nil {
					grant = test.grant()
				}
				e := engine(&hub, grant)
				conn := connect(t, e, &test.every, "/")
				began := time.Now()
				<-conn.ended
				assert.Equal(t, []string{"ready 0", "end: " + test.want}, conn.take())
				assert.GreaterOrEqual(t, time.Since(began), test.wait*4/5)
				assert.LessOrEqual(t, time.Since(began), test.wait)
				synctest.Wait()
				stats := e.Stats()
				assert.Equal(t, map[string]uint64{test.want: 1}, stats.Ended)
				assert.Zero(t, stats.Open)
				assert.Zero(t, hub.Stats().Subscriptions)
			})
		})
	}
}

// A client that polls gets the first news, or the position after 25 s.
func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		at := publish(t, &hub, "a", "before")
		e := engine(&hub, nil)
		poll := func(target string) *wire {
			tr := &transport{}
			tr.begin = func(o *delivery.Opening) error { o.Poll(tr.conn, nil); return nil }
			return connect(t, e, tr, target)
		}
		assert.Equal(t, []string{"ready 1", "end: polled"}, poll("/").take(), "a client without a position has it at once")
		began := time.Now()
		assert.Equal(t, []string{"ready 1", "end: polled"}, poll("/?lastEventId="+at.String()).take())
		assert.Equal(t, 25*time.Second, time.Since(began))
		time.AfterFunc(time.Second, func() { publish(t, &hub, "a", "one") })
		assert.Equal(t, []string{"ready 1", "one 2", "end: polled"}, poll("/?lastEventId="+at.String()).take())
	})
}

// What is in the log when a stream is asked to end with Complete is still sent, and
// nothing after it; another reason ends it with the write in progress.
func TestEndIsComplete(t *testing.T) {
	for name, why := range map[string]delivery.Reason{"complete": delivery.Restart, "at once": delivery.Expired} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := broadcast.Hub{Keep: 1000}
				tr := &transport{}
				conn := connect(t, engine(&hub, nil), tr, "/")
				synctest.Wait()
				conn.block = make(chan struct{})
				publish(t, &hub, "a", "one")
				synctest.Wait() // it is being written
				want := []string{"ready 0", "one 1"}
				for range 600 { // more than one Poll returns
					last := publish(t, &hub, "a", "more")
					if why.Complete {
						want = append(want, "more "+seq(last))
					}
				}
				tr.stream.End(why)
				tr.stream.End(delivery.Fault)
				publish(t, &hub, "a", "too late")
				close(conn.block)
				<-tr.stream.Done()
				assert.Equal(t, append(want, "end: "+why.Name), conn.take())
				assert.Equal(t, 1, conn.closed, "the first reason stands")
			})
		})
	}
}

// One write has at most MaxWrite bytes, unless a single message has more.
func TestWritesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := broadcast.Hub{Keep: 1000}
		defer hub.Close()
		conn := connect(t, engine(&hub, nil), &transport{}, "/")
		synctest.Wait()
		conn.block = make(chan struct{})
		text := strings.Repeat("x", 10_000)
		for range 100 {
			publish(t, &hub, "a", text)
		}
		close(conn.block)
		synctest.Wait()
		assert.Len(t, conn.take(), 101)
		for _, size := range conn.sizes {
			assert.LessOrEqual(t, size, delivery.MaxWrite)
		}
		publish(t, &hub, "a", strings.Repeat("y", 2*delivery.MaxWrite))
		synctest.Wait()
		assert.Len(t, conn.take(), 1)
	})
}

// A resume from before what is kept begins with a gap. On a wire that does not send gaps
// it ends the stream, without a message that would hide the loss.
func TestGap(t *testing.T) {
	for name, gaps := range map[string]bool{"sent": true, "not sent": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := broadcast.Hub{Keep: 2}
				defer hub.Close()
				first := publish(t, &hub, "a", "one")
				publish(t, &hub, "a", "two", "three", "four")
				conn := connect(t, engine(&hub, nil), &transport{mode: delivery.Mode{Codec: codec(gaps)}, prologue: []byte("head\n")}, "/?lastEventId="+first.String())
				synctest.Wait()
				if gaps {
					assert.Equal(t, []string{"head", "gap 2", "three 3", "four 4"}, conn.take())
				} else {
					assert.Equal(t, []string{"head", "end: gap not sent"}, conn.take())
				}
			})
		})
	}
}

// The state that a client begins with has no IDs. It goes between the notice that all topics
// begin, whose position resumes as a loss, and the position. After a loss that takes the place
// of a gap.
func TestSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := broadcast.Hub{Keep: 2}
		defer hub.Close()
		first := publish(t, &hub, "a", "one")
		publish(t, &hub, "a", "two", "three")
		grant := &fanfare.Grant{Topics: []string{"a"}, Last: 1, Snapshot: func(context.Context) ([]broadcast.Message, error) {
			return []broadcast.Message{{Topic: "a", Data: []byte("state")}}, nil
		}}
		e := engine(&hub, grant)
		fresh := connect(t, e, &transport{}, "/")
		synctest.Wait()
		assert.Equal(t, []string{"begin ?", "state", "three", "ready 3"}, fresh.take())
		publish(t, &hub, "a", "four")
		late := connect(t, e, &transport{}, "/?lastEventId="+first.String())
		synctest.Wait()
		assert.Equal(t, []string{"begin ?", "state", "ready 4"}, late.take(), "what is older than the state does not follow it")
	})
}

// After a loss, where a stream begins or in the middle of it, it goes on from where the Snapshot was
// taken: without what was kept before, and with what was published meanwhile.
func TestStreamGoesOnFromItsSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := broadcast.Hub{Keep: 1}
		defer hub.Close()
		first := publish(t, &hub, "a", "1")
		publish(t, &hub, "b", "2", "3")
		publish(t, &hub, "a", "4")
		calls := 0
		grant := &fanfare.Grant{Topics: []string{"a", "b"}, Snapshot: func(context.Context) ([]broadcast.Message, error) {
			if calls++; calls == 1 {
				publish(t, &hub, "b", "5", "6", "7") // more than is kept
			} else {
				publish(t, &hub, "b", "meanwhile")
			}
			return []broadcast.Message{{Topic: "a", Data: []byte("state")}}, nil
		}}
		c := connect(t, engine(&hub, grant), &transport{}, "/?lastEventId="+first.String())
		synctest.Wait()
		assert.Equal(t, []string{"begin ?", "state", "ready 4", "begin ?", "state", "position 7", "meanwhile 8"}, c.take())
	})
}

// End stops a Snapshot that runs, and a panic in one ends the stream.
func TestSnapshotIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := broadcast.Hub{Keep: 1}
		defer hub.Close()
		calls := 0
		grant := &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(ctx context.Context) ([]broadcast.Message, error) {
			if calls++; calls > 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return nil, nil
		}}
		tr := &transport{}
		conn := connect(t, engine(&hub, grant), tr, "/")
		synctest.Wait()
		conn.block = make(chan struct{})
		publish(t, &hub, "a", "one")
		synctest.Wait()
		publish(t, &hub, "a", "two", "three", "four")
		close(conn.block) // the stream has lost messages now
		synctest.Wait()
		tr.stream.End(delivery.Expired)
		<-tr.stream.Done()
		assert.Contains(t, conn.take(), "end: expired")
	})
}

// A Snapshot that the end of the request stops is no fault, also if it returns before anything else
// has seen that end.
func TestRequestEndsInSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := broadcast.Hub{Keep: 1}
		defer hub.Close()
		requestCtx, cancel := context.WithCancel(t.Context())
		calls := 0
		grant := &fanfare.Grant{Topics: []string{"a"}, Snapshot: func(ctx context.Context) ([]broadcast.Message, error) {
			if calls++; calls > 1 {
				cancel()
			}
			return nil, ctx.Err()
		}}
		var log bytes.Buffer
		e := engine(&hub, grant)
		e.Logger = slog.New(slog.NewTextHandler(&log, nil))
		tr := &transport{conn: newWire()}
		tr.conn.block = make(chan struct{})
		tr.begin = func(o *delivery.Opening) error { o.Serve(tr.conn, nil, 0); return nil }
		go e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(requestCtx), tr)
		synctest.Wait()
		publish(t, &hub, "a", "one", "two", "three")
		close(tr.conn.block) // the stream has lost messages now
		synctest.Wait()
		assert.Equal(t, 2, calls)
		assert.Contains(t, tr.conn.take(), "end: request ended")
		assert.Empty(t, log.String())
	})
}

// A message that cannot be encoded is dropped, and the stream goes on.
func TestEncodeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		defer hub.Close()
		conn := connect(t, engine(&hub, nil), &transport{every: time.Second}, "/")
		publish(t, &hub, "a", "one", "panics", "fails", "two", "panics")
		time.Sleep(2500 * time.Millisecond)
		assert.Equal(t, []string{"ready 0", "one 1", "two 4", "position 5", "beat"}, conn.take())
	})
}

// A write that fails ends the stream: no byte follows, whatever was asked for before.
func TestWriteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		defer hub.Close()
		tr := &transport{}
		e := engine(&hub, nil)
		conn := connect(t, e, tr, "/")
		synctest.Wait()
		conn.fail = errors.New("broken pipe")
		tr.stream.End(delivery.Restart)
		publish(t, &hub, "a", "one")
		<-tr.stream.Done()
		synctest.Wait()
		assert.Equal(t, "ready 0", conn.take()[0])
		conn = connect(t, e, tr, "/")
		synctest.Wait()
		conn.fail = errors.New("broken pipe")
		publish(t, &hub, "a", "two")
		<-tr.stream.Done()
		assert.Equal(t, uint64(1), e.Stats().Ended["write failed"])
	})
}

// A client that asks for other topics has them from the answer on, with the state of
// the new ones before it. A refusal leaves what it has.
func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		defer hub.Close()
		grant := &fanfare.Grant{Topics: []string{"a"}, Change: func(topics []string) (*fanfare.Grant, error) {
			if topics[0] == "secret" {
				return nil, &fanfare.Refusal{}
			}
			return &fanfare.Grant{Topics: topics, Snapshot: func(context.Context) ([]broadcast.Message, error) {
				return []broadcast.Message{{Topic: "b", Data: []byte("state")}}, nil
			}}, nil
		}}
		tr := &transport{}
		conn := connect(t, engine(&hub, grant), tr, "/")
		require.True(t, tr.stream.MayChange())
		synctest.Wait()
		tr.stream.Change(delivery.TopicsRequest{Topics: []string{"secret"}})
		synctest.Wait()
		publish(t, &hub, "b", "not yet")
		publish(t, &hub, "a", "one")
		synctest.Wait()
		tr.stream.Change(delivery.TopicsRequest{Topics: []string{"b"}})
		synctest.Wait()
		publish(t, &hub, "a", "not any more")
		publish(t, &hub, "b", "two")
		synctest.Wait()
		assert.Equal(t, []string{"ready 0", "topics 0", "one 2", "begin ?", "state", "topics 2", "two 4"}, conn.take())
	})
}

// A stream whose write blocks does not keep the others waiting.
func TestBlockedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		defer hub.Close()
		e := engine(&hub, nil)
		var blocked []*wire
		for range 50 {
			blocked = append(blocked, connect(t, e, &transport{}, "/"))
		}
		reads := connect(t, e, &transport{}, "/")
		synctest.Wait()
		release := make(chan struct{})
		for _, conn := range blocked {
			conn.block = release
		}
		publish(t, &hub, "a", "one")
		time.Sleep(3 * time.Second)
		assert.Equal(t, []string{"ready 0", "one 1"}, reads.take())
		close(release)
		synctest.Wait()
		for _, conn := range blocked {
			assert.Equal(t, []string{"ready 0", "one 1"}, conn.take())
		}
	})
}

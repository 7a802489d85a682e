package sse_test

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A client gets exactly the messages after its last event ID. The header precedes the query.
func TestResumeSendsWhatFollowsTheLastEventID(t *testing.T) {
	hub := &broadcast.Hub{Keep: 8}
	serve(t, &sse.Handler{Broadcaster: hub, Topics: []string{"a", "b"}}, func(t *testing.T, n *network) {
		var ids, blocks []string
		for i := range 20 {
			topic := []string{"a", "b", "c"}[i%3]
			id := publish(t, hub, topic, strconv.Itoa(i))
			ids = append(ids, id)
			if topic != "c" {
				blocks = append(blocks, tick(id, strconv.Itoa(i)))
			} else {
				blocks = append(blocks, "")
			}
		}
		resumed := func(target string, header ...string) string {
			s := n.get("/"+target, header...)
			defer synctest.Wait()
			defer s.cancel()
			return s.received()
		}
		for i, id := range ids {
			want := "retry: 3000\nid: " + id + "\n\n" + strings.Join(blocks[i+1:], "")
			require.Equal(t, want, resumed("", "Last-Event-ID", id), "after message %d", i)
		}

		want := "retry: 3000\nid: " + ids[18] + "\n\n" + blocks[19]
		for _, name := range []string{"lastEventId", "last_event_id", "lastEventID"} {
			assert.Equal(t, want, resumed("?"+name+"="+ids[18]), name)
			assert.Equal(t, want, resumed("?"+name+"="+ids[3], "Last-Event-ID", ids[18]),
				"an EventSource repeats its first URL, so the header is newer")
			assert.Equal(t, want, resumed("?"+name+"="+ids[18], "Last-Event-ID", ""), "an empty header does not count")
		}
		assert.Equal(t, want, resumed("?last_event_id="+ids[18]+"&lastEventID="+ids[3]+"&lastEventId="), "the first that is not empty")
		assert.Equal(t, want, resumed("?lastEventId="+ids[18]+"&last_event_id="+ids[3]), "the first that is not empty")
		assert.Equal(t, "retry: 3000\nid: "+ids[19]+"\n\n", resumed("?lasteventid="+ids[3]), "another name")
	})
}

// 10,000 clients that resume at once all get what they missed, and each message is encoded
// once.
func TestReplayedMessagesAreEncodedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, missed = 10_000, 100
		var hub broadcast.Hub
		var encoded, sent atomic.Int64
		h := &sse.Handler{Broadcaster: &hub, Topics: []string{"a"}, Detach: true, Logger: silent, Encode: func(m *broadcast.Message) (sse.Event, bool) {
			encoded.Add(1)
			return sse.Event{Data: m.Data}, true
		}}
		begin := position(t, &hub)
		data := strings.Repeat("x", 100)
		for range missed {
			publish(t, &hub, "a", data)
		}
		for range clients {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Last-Event-ID", begin)
			h.ServeHTTP(newSinkWriter(&sent), r)
		}
		synctest.Wait()
		require.Equal(t, clients, hub.Stats().Subscriptions)
		require.Greater(t, sent.Load(), int64(clients*missed*len(data)), "every client has got everything")
		require.EqualValues(t, missed, encoded.Load(), "once each")
		require.NoError(t, hub.Close())
		synctest.Wait()
	})
}

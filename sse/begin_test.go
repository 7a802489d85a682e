package sse_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A fresh client gets the Snapshot, then the Last messages, then the position. A client that
// resumes gets neither.
func TestSnapshotThenLastThenPosition(t *testing.T) {
	snapshot := func(context.Context) ([]broadcast.Message, error) {
		return []broadcast.Message{
			{Topic: "a", Type: "state", Data: []byte("1")},
			{Topic: "x", Data: []byte{0xff}, Binary: true, ID: broadcast.MakeID(7, 7)},
		}, nil
	}
	const begin = "event: begin\nid: 1-0\ndata: {\"begin\":\"1-0\"}\n\n"
	const state = "event: state\ndata: 1\n\nevent: message;base64\ndata: /w==\n\n"
	for _, test := range []struct {
		name, why   string
		grant       fanfare.Grant
		lastEventID string // "first", "gap" or none
		target      string
		want        string // with IDs as 1, 2, 3, and 0 before the first kept
	}{
		{"nothing", "from now on", fanfare.Grant{}, "", "/", "id: 3\n\n"},
		{"Last", "without ids before the position: a cut among them gets them again", fanfare.Grant{Last: 2}, "", "/",
			"event: tick\ndata: one\n\nevent: tick\ndata: two\n\nevent: tick\ndata: three\n\nid: 3\n\n"},
		{"Last of a client that resumes", "it gets what it missed, not what it has", fanfare.Grant{Last: 2}, "first", "/",
			"id: 1\n\nevent: tick\nid: 2\ndata: two\n\nevent: tick\nid: 3\ndata: three\n\n"},
		{"Snapshot", "without ids before the position, whatever ids it has", fanfare.Grant{Snapshot: snapshot}, "", "/",
			begin + state + "id: 3\n\n"},
		{"Snapshot of a client that resumes", "it has the state already", fanfare.Grant{Snapshot: snapshot}, "first", "/",
			"id: 1\n\nevent: tick\nid: 2\ndata: two\n\nevent: tick\nid: 3\ndata: three\n\n"},
		{"Snapshot after a gap", "the state is unknown; a cut in the middle begins again; what is kept is older than the state", fanfare.Grant{Snapshot: snapshot}, "gap", "/",
			begin + state + "id: 3\n\n"},
		{"both", "the state is older than the messages", fanfare.Grant{Snapshot: snapshot, Last: 1}, "", "/",
			begin + state + "event: tick\ndata: two\n\nevent: tick\ndata: three\n\nid: 3\n\n"},
		{"in an envelope", "the messages have no id there either", fanfare.Grant{Snapshot: snapshot, Last: 1}, "", "/?envelope=1",
			"id: 1-0\ndata: {\"begin\":\"1-0\",\"heartbeat\":15}\n\ndata: {\"topic\":\"a\",\"type\":\"state\",\"data\":\"1\"}\n\ndata: {\"topic\":\"x\",\"data\":\"/w==\",\"encoding\":\"base64\"}\n\n" +
				"data: {\"topic\":\"b\",\"type\":\"tick\",\"data\":\"two\"}\n\ndata: {\"topic\":\"a\",\"type\":\"tick\",\"data\":\"three\"}\n\n" +
				"id: 3\ndata: {\"ready\":\"3\",\"heartbeat\":15}\n\n"},
		{"Filter", "it sees the Last messages too, not the state",
			fanfare.Grant{Snapshot: snapshot, Last: 9, Filter: func(m *broadcast.Message) bool { return string(m.Data) == "two" }}, "", "/",
			begin + state + "event: tick\ndata: two\n\nid: 3\n\n"},
		{"a Snapshot of nothing", "there may be no state yet",
			fanfare.Grant{Snapshot: func(context.Context) ([]broadcast.Message, error) { return nil, nil }}, "", "/", begin + "id: 3\n\n"},
		{"a topic twice", "it is one topic", fanfare.Grant{Topics: []string{"a", "a"}}, "first", "/",
			"id: 1\n\nevent: tick\nid: 3\ndata: three\n\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hub broadcast.Hub
				if test.grant.Topics == nil {
					test.grant.Topics = []string{"a", "b"}
				}
				h := &sse.Handler{Broadcaster: &hub, Grant: func(*http.Request) (*fanfare.Grant, error) { return &test.grant, nil }}
				ids := []string{"", publish(t, &hub, "a", "one"), publish(t, &hub, "b", "two"), publish(t, &hub, "a", "three")}
				ids[0] = before(t, ids[1])
				want := test.want
				for i, id := range ids {
					want = strings.ReplaceAll(want, fmt.Sprintf("id: %d\n", i), "id: "+id+"\n")
					want = strings.ReplaceAll(want, fmt.Sprintf(`{"ready":"%d"`, i), `{"ready":"`+id+`"`)
				}
				lastEventID := map[string]string{"first": ids[1], "gap": "2-5"}[test.lastEventID]
				require.Equal(t, "retry: 3000\n"+want, record(t, h, test.target, lastEventID, nil), test.why)
			})
		})
	}
}

// The Last messages are sent in order, before messages that are published meanwhile, except
// those that the log evicts before their turn has come.
func TestLastMessagesPrecedeNewerOnes(t *testing.T) {
	for keep, evicted := range map[int]int{1300: 0, 1000: 300} { // how many of the Last messages, of which the first Poll returns 16
		synctest.Test(t, func(t *testing.T) {
			hub := &broadcast.Hub{Keep: keep}
			var want strings.Builder
			want.WriteString("retry: 3000\n")
			var last string
			for i := range 1000 {
				last = publish(t, hub, "a", strconv.Itoa(i))
				if i < 16 || i >= evicted {
					fmt.Fprintf(&want, "event: tick\ndata: %d\n\n", i)
				}
			}
			want.WriteString("id: " + last + "\n\n")
			var once sync.Once
			h := &sse.Handler{Broadcaster: hub, Grant: func(*http.Request) (*fanfare.Grant, error) {
				return &fanfare.Grant{Topics: []string{"a"}, Last: 1000, Filter: func(m *broadcast.Message) bool {
					once.Do(func() {
						for i := range 300 {
							data := "live " + strconv.Itoa(i)
							want.WriteString(tick(publish(t, hub, "a", data), data))
						}
					})
					return true
				}}, nil
			}}
			got := record(t, h, "/", "", nil)
			require.Equal(t, want.String(), got)
		})
	}
}

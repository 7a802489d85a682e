package sse_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A gap is an event with an id and with data, and comes before the messages that follow the
// loss.
func TestGapsOnTheWire(t *testing.T) {
	testWire(t, []wireCase{
		{name: "a gap at the beginning", why: "it comes before everything, in a block with an id and with data",
			results: wireGap([]string{"prices", `"b"`}, wireMessage(0x2b, "tick", "x")),
			want: "retry: 3000\nevent: gap\nid: 1f-2a\ndata: {\"gap\":\"1f-2a\",\"topics\":[\"prices\",\"\\\"b\\\"\"]}\n\n" +
				"event: tick\nid: 1f-2b\ndata: x\n\n"},
		{name: "a gap in all topics", why: "then the topics are not listed",
			results: wireGap(nil),
			want:    "retry: 3000\nevent: gap\nid: 1f-2a\ndata: {\"gap\":\"1f-2a\"}\n\n"},
		{name: "a gap later on", why: "it comes before the message that follows the loss",
			results: append(wirePoll(wireMessage(0x2a, "", "1")), wireGap([]string{"prices"}, wireMessage(0x2b, "", "2"))...),
			want:    wireBegin + "id: 1f-2a\ndata: 1\n\nevent: gap\nid: 1f-2a\ndata: {\"gap\":\"1f-2a\",\"topics\":[\"prices\"]}\n\nid: 1f-2b\ndata: 2\n\n"},
		{name: "a gap without a position", why: "an empty id would clear the client's",
			results: []pollResult{{err: &broadcast.GapError{}}}, want: "retry: 3000\nevent: gap\ndata: {\"gap\":\"\"}\n\n"},
	})
}

// A position that cannot be placed resumes with a gap, and then with what is kept.
func TestUnknownPositionResumesWithAGap(t *testing.T) {
	hub := &broadcast.Hub{Keep: 2}
	serve(t, &sse.Handler{Broadcaster: hub, Topics: []string{"a", "b"}}, func(t *testing.T, n *network) {
		var a []string
		for i := range 4 {
			a = append(a, publish(t, hub, "a", strconv.Itoa(i)))
		}
		b := publish(t, hub, "b", "b")
		kept := tick(a[2], "2") + tick(a[3], "3") + tick(b, "b")
		gap := func(id, topics string) string {
			return "retry: 3000\nevent: gap\nid: " + id + "\ndata: {\"gap\":\"" + id + "\"" + topics + "}\n\n"
		}
		head, err := broadcast.ParseID(b)
		require.NoError(t, err)
		for _, test := range []struct{ name, why, lastEventID, want string }{
			{"no ID", "whatever it was, it cannot be placed", "nonsense", gap(before(t, a[2]), "") + kept},
			{"almost an ID", "only an ID as it was sent is one", strings.ToUpper(a[0]) + "0g", gap(before(t, a[2]), "") + kept},
			{"another epoch", "the process has been restarted", "2-5", gap(before(t, a[2]), "") + kept},
			{"the reserved epoch", "a position in it always resumes with a gap", "1-0", gap(before(t, a[2]), "") + kept},
			{"the future", "there is nothing to repeat", broadcast.MakeID(head.Epoch(), head.Seq()+1).String(), gap(b, "")},
			{"older than what is kept", "only one topic has lost something", a[0], gap(before(t, a[2]), `,"topics":["a"]`) + kept},
			{"as old as what is kept", "nothing is lost", a[1], "retry: 3000\nid: " + a[1] + "\n\n" + kept},
		} {
			for _, s := range []*stream{n.get("/", "Last-Event-ID", test.lastEventID), n.get("/?lastEventId=" + test.lastEventID)} {
				require.Equal(t, test.want, s.received(), "%s: %s", test.name, test.why)
				s.cancel()
			}
		}
		s := n.get("/", "Last-Event-ID", "nonsense")
		s.expect(gap(before(t, a[2]), "") + kept)
		next := publish(t, hub, "b", "live")
		s.expect(tick(next, "live"))
		s.cancel()
		synctest.Wait()
	})
}

package sse_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// wireCase is a stream of a scripted Broadcaster, and every byte that its client gets.
type wireCase struct {
	name, why string
	target    string // the query of the request
	options   sse.Options
	encode    func(*broadcast.Message) (sse.Event, bool)
	nowhere   bool // the Broadcaster has no positions
	results   []pollResult
	idle      time.Duration // how long nothing more happens
	want      string
}

// wireID returns an ID of the epoch that the cases have in common: a Hub's is random.
func wireID(seq uint64) broadcast.ID { return broadcast.MakeID(0x1f, seq) }

func wireMessage(seq uint64, typ, data string) broadcast.Message {
	return broadcast.Message{ID: wireID(seq), Topic: "prices", Type: typ, Data: []byte(data)}
}

// wirePoll is one Poll that returns these messages.
func wirePoll(ms ...broadcast.Message) []pollResult { return []pollResult{{messages: ms}} }

// wireGap is one Poll that returns a gap, and the messages that follow it.
func wireGap(topics []string, ms ...broadcast.Message) []pollResult {
	return []pollResult{{messages: ms, err: &broadcast.GapError{ID: wireID(0x2a), Topics: topics}, position: wireID(0x2b)}}
}

const (
	wireBegin         = "retry: 3000\nid: 1f-29\n\n"
	wireBeginEnvelope = "retry: 3000\nid: 1f-29\ndata: {\"ready\":\"1f-29\",\"heartbeat\":15}\n\n"
)

func testWire(t *testing.T, cases []wireCase) {
	t.Helper()
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			b := &scripted{begin: wireID(0x29), results: test.results}
			if test.nowhere {
				b.begin = broadcast.ID{}
			}
			h := &sse.Handler{Broadcaster: b, Topics: []string{"prices"}, Options: test.options, Encode: test.encode}
			serve(t, h, func(t *testing.T, n *network) {
				s := n.get("/" + test.target)
				time.Sleep(test.idle)
				require.Equal(t, test.want, s.received(), test.why)
				s.cancel()
				synctest.Wait()
			})
		})
	}
}

// A message is one block: its type, its ID, and a data line for each line of its data.
func TestMessagesOnTheWire(t *testing.T) {
	testWire(t, []wireCase{
		{name: "the beginning", why: "a client that is cut now resumes where it began",
			want: wireBegin},
		{name: "a message", why: "the type, the id, the data",
			results: wirePoll(wireMessage(0x2a, "tick", `{"usd":42}`)),
			want:    wireBegin + "event: tick\nid: 1f-2a\ndata: {\"usd\":42}\n\n"},
		{name: "no type", why: "a browser's message event",
			results: wirePoll(wireMessage(0x2a, "", "x")),
			want:    wireBegin + "id: 1f-2a\ndata: x\n\n"},
		{name: "data of several lines", why: "each way to end a line ends one",
			results: wirePoll(wireMessage(0x2a, "", "a\nb\r\nc\rd\n")),
			want:    wireBegin + "id: 1f-2a\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"},
		{name: "empty data", why: "a block without data fires nothing in a browser",
			results: wirePoll(wireMessage(0x2a, "", ""), broadcast.Message{ID: wireID(0x2b), Topic: "prices", Type: "tick"}),
			want:    wireBegin + "id: 1f-2a\ndata: \n\nevent: tick\nid: 1f-2b\ndata: \n\n"},
		{name: "binary", why: "an event stream carries text alone",
			results: wirePoll(broadcast.Message{ID: wireID(0x2a), Topic: "prices", Type: "tick", Data: []byte{0xff, 0, '\n'}, Binary: true}),
			want:    wireBegin + "event: tick;base64\nid: 1f-2a\ndata: /wAK\n\n"},
		{name: "binary without a type", why: "the type has to mark it as base64",
			results: wirePoll(broadcast.Message{ID: wireID(0x2a), Topic: "prices", Data: []byte{0xff}, Binary: true}, broadcast.Message{ID: wireID(0x2b), Topic: "prices", Binary: true}),
			want:    wireBegin + "event: message;base64\nid: 1f-2a\ndata: /w==\n\nevent: message;base64\nid: 1f-2b\ndata: \n\n"},
	})
}

// A heartbeat sends the position if it has moved, else a comment. No block has an empty id.
func TestPositionsOnTheWire(t *testing.T) {
	testWire(t, []wireCase{
		{name: "a heartbeat", why: "no blank line follows it: some clients fire on each",
			idle: 16 * time.Second, want: wireBegin + ":\n"},
		{name: "a position", why: "it moved without a message for this client",
			results: []pollResult{{}, {position: wireID(0x31)}}, idle: 16 * time.Second, want: wireBegin + "id: 1f-31\n\n"},
		{name: "no position", why: "an empty id would clear the client's",
			nowhere: true, idle: 16 * time.Second, want: "retry: 3000\n:\n"},
	})
}

// A stream begins with the padding, if it is asked for, and the time to reconnect after.
func TestPrologueOnTheWire(t *testing.T) {
	testWire(t, []wireCase{
		{name: "another time to reconnect after", why: "it is the handler's to choose",
			options: sse.Options{Retry: 1500 * time.Millisecond}, want: "retry: 1500\nid: 1f-29\n\n"},
		{name: "a very short one", why: "0 would let clients reconnect without a pause",
			options: sse.Options{Retry: 1}, want: "retry: 1\nid: 1f-29\n\n"},
		{name: "none", why: "the client's own default applies",
			options: sse.Options{Retry: -1}, want: "id: 1f-29\n\n"},
		{name: "padding", why: "old polyfills wait for 2 KB",
			target: "?padding=true", want: ":" + strings.Repeat(" ", 2048) + "\n" + wireBegin},
		{name: "padding by number", why: "1 and true both switch a parameter on",
			target: "?padding=1", want: ":" + strings.Repeat(" ", 2048) + "\n" + wireBegin},
		{name: "padding of another kind", why: "nothing else switches it on",
			target: "?padding=yes", want: wireBegin},
	})
}

package sse_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// With envelope=1 the data of each block is the JSON that a WebSocket of the kit carries.
func TestEnvelopesOnTheWire(t *testing.T) {
	testWire(t, []wireCase{
		{name: "the beginning in an envelope", why: "a script sees the data of a block, not its id",
			target: "?envelope=1", want: wireBeginEnvelope},
		{name: "a message in an envelope", why: "it has no type, so that one listener gets all",
			target: "?envelope=1", results: wirePoll(wireMessage(0x2a, "tick", "a\n<b>&")),
			want: wireBeginEnvelope + "id: 1f-2a\ndata: {\"id\":\"1f-2a\",\"topic\":\"prices\",\"type\":\"tick\",\"data\":\"a\\n<b>&\"}\n\n"},
		{name: "binary in an envelope", why: "the envelope names its encoding",
			target: "?envelope=1", results: wirePoll(broadcast.Message{ID: wireID(0x2a), Topic: "prices", Type: "tick", Data: []byte{0xff}, Binary: true}),
			want: wireBeginEnvelope + "id: 1f-2a\ndata: {\"id\":\"1f-2a\",\"topic\":\"prices\",\"type\":\"tick\",\"data\":\"/w==\",\"encoding\":\"base64\"}\n\n"},
		{name: "a type that is not UTF-8", why: "clients would see another",
			target: "?envelope=1", encode: func(*broadcast.Message) (sse.Event, bool) { return sse.Event{Type: "\xff"}, true },
			results: wirePoll(wireMessage(0x2a, "tick", "x")), want: wireBeginEnvelope},
		{name: "a gap in an envelope", why: "as on a WebSocket",
			target: "?envelope=1", results: wireGap([]string{"prices"}),
			want: "retry: 3000\nid: 1f-2a\ndata: {\"gap\":\"1f-2a\",\"topics\":[\"prices\"],\"heartbeat\":15}\n\n"},
		{name: "a position in an envelope", why: "as on a WebSocket",
			target: "?envelope=1", results: []pollResult{{}, {position: wireID(0x31)}}, idle: 16 * time.Second,
			want: wireBeginEnvelope + "id: 1f-31\ndata: {\"position\":\"1f-31\"}\n\n"},
		{name: "no position in an envelope", why: "an empty id would clear the client's",
			target: "?envelope=1", nowhere: true, want: "retry: 3000\ndata: {\"ready\":\"\",\"heartbeat\":15}\n\n"},
		{name: "an envelope after padding", why: "the parameters are independent",
			target: "?envelope=1&padding=true", want: ":" + strings.Repeat(" ", 2048) + "\n" + wireBeginEnvelope},
	})
}

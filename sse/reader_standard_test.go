package sse_test

import (
	"cmp"
	"flag"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/conformance"
	"github.com/fanfare-go/fanfare/sse"
)

// outcome is everything that a Reader returns for a stream.
type outcome struct {
	Events []sse.Event
	Err    string
	LastID string
	Retry  time.Duration
}

// readAll reads a stream to its end.
func readAll(src io.Reader, maxEvent int) outcome {
	r := sse.NewReader(src)
	r.MaxEvent = maxEvent
	var o outcome
	for {
		e, err := r.Read()
		if err != nil {
			o.Err, o.LastID, o.Retry = err.Error(), r.LastEventID(), r.Retry()
			return o
		}
		o.Events = append(o.Events, e)
	}
}

// feeds are ways in which the same bytes may arrive.
var feeds = []struct {
	name string
	feed func(stream string) []io.Reader
}{
	{"whole", func(s string) []io.Reader {
		return []io.Reader{strings.NewReader(s), iotest.DataErrReader(strings.NewReader(s))}
	}},
	{"byte by byte", func(s string) []io.Reader {
		return []io.Reader{iotest.OneByteReader(strings.NewReader(s)), iotest.DataErrReader(iotest.OneByteReader(strings.NewReader(s)))}
	}},
	{"in two pieces, cut anywhere", func(s string) (readers []io.Reader) {
		for i := range len(s) + 1 {
			readers = append(readers, io.MultiReader(strings.NewReader(s[:i]), strings.NewReader(s[i:])))
		}
		return readers
	}},
}

// data returns events with this data alone.
func data(lines ...string) []sse.Event {
	var events []sse.Event
	for _, l := range lines {
		events = append(events, sse.Event{Data: []byte(l)})
	}
	return events
}

// Every case of WHATWG HTML 9.2.5 and 9.2.6 has one outcome, however its bytes arrive.
func TestReaderFollowsTheStandard(t *testing.T) {
	table := &conformance.Table{}
	for _, f := range feeds {
		table.Columns = append(table.Columns, f.name)
	}
	part := ""
	for _, tt := range []struct {
		part              string // from here on
		name, why, stream string
		want              []sse.Event
		lastID            string
		retry             time.Duration
	}{
		{part: "9.2.6 the examples", name: "YHOO", why: "data lines are joined by LF",
			stream: "data: YHOO\ndata: +2\ndata: 10\n\n", want: data("YHOO\n+2\n10")},
		{name: "four blocks", why: "a comment fires nothing, an empty id resets, one space is stripped, the last block is not ended",
			stream: ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
			want:   []sse.Event{{ID: "1", Data: []byte("first event")}, {Data: []byte("second event")}}},
		{name: "four blocks, ended", why: "only the first space is stripped",
			stream: "data:second event\nid\n\ndata:  third event\n\n", want: data("second event", " third event")},
		{name: "data without value", why: "it dispatches an empty string, and two a newline; the last is not ended",
			stream: "data\n\ndata\ndata\n\ndata:", want: data("", "\n")},
		{name: "space after the colon", why: "it makes no difference", stream: "data:test\n\ndata: test\n\n", want: data("test", "test")},

		{part: "9.2.5 line ends", name: "CR", why: "it ends a line", stream: "data: a\rdata: b\r\rdata: c\r\r", want: data("a\nb", "c")},
		{name: "CRLF", why: "it is one end", stream: "data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", want: data("a\nb", "c")},
		{name: "all ends mixed", why: "each line may have its own",
			stream: "data: a\ndata: b\r\ndata: c\r\r\ndata: d\n\r\ndata: e\r\n\rdata: f\n\r", want: data("a\nb\nc", "d", "e", "f")},
		{name: "LF CR", why: "in this order they are two ends", stream: "data: a\n\rdata: b\n\r", want: data("a", "b")},
		{name: "other separators", why: "no other character ends a line",
			stream: "data: a\vb\fc\u0085d\u2028e\u2029f\x1c\n\n", want: data("a\vb\fc\u0085d\u2028e\u2029f\x1c")},
		{name: "blank lines", why: "they dispatch nothing by themselves", stream: "\n\r\r\n\n\ndata: a\n\n\n\n", want: data("a")},

		{part: "9.2.5 the byte order mark", name: "byte order mark", why: "one is stripped", stream: "\uFEFFdata: a\n\n", want: data("a")},
		{name: "two byte order marks", why: "the second belongs to the name of the field", stream: "\uFEFF\uFEFFdata: a\n\ndata: b\n\n", want: data("b")},
		{name: "late byte order mark", why: "it belongs to the name of the field", stream: "data: a\n\n\uFEFFdata: b\n\n", want: data("a")},
		{name: "byte order mark and blank line", why: "the line is blank without it", stream: "\uFEFF\n\uFEFFdata: a\n\ndata: b\n\n", want: data("b")},
		{name: "half a byte order mark", why: "it is no byte order mark", stream: "\xEF\xBBdata: a\n\ndata: b\n\n", want: data("b")},
		{name: "byte order mark in data", why: "it is text", stream: "data:\uFEFFa\n\n", want: data("\uFEFFa")},

		{part: "9.2.6 fields and comments", name: "comment", why: "it is ignored, within a block too", stream: ":\n: x\ndata: a\n:data: b\n::\n\n", want: data("a")},
		{name: "unknown fields", why: "names are compared as they are",
			stream: "Data: a\ndata : b\n data: c\nDATA: d\ndatas: e\nfoo\n\ndata: f\n\n", want: data("f")},
		{name: "colon in the value", why: "only the first separates", stream: "data::a:b\ndata: : c\n\n", want: data(":a:b\n: c")},
		{name: "tab after the colon", why: "only a space is stripped", stream: "data:\ta\n\n", want: data("\ta")},
		{name: "a space alone", why: "it is the space that is stripped", stream: "data: \n\n", want: data("")},
		{name: "two spaces", why: "one is left", stream: "data:  \n\n", want: data(" ")},
		{name: "trailing space", why: "it is kept", stream: "data: a \n\n", want: data("a ")},
		{name: "leading empty data", why: "it counts as a line", stream: "data\ndata: a\ndata:\n\n", want: data("\na\n")},
		{name: "NUL in data", why: "it is text", stream: "data: a\x00b\n\n", want: data("a\x00b")},
		{name: "NUL in a name", why: "the field is unknown", stream: "data\x00: a\n\ndata: b\n\n", want: data("b")},

		{part: "9.2.6 event", name: "event", why: "the type is of one event alone",
			stream: "event: t\ndata: a\n\ndata: b\n\n", want: []sse.Event{{Type: "t", Data: []byte("a")}, {Data: []byte("b")}}},
		{name: "event after data", why: "the order in a block is free", stream: "data: a\nevent: t\n\n", want: []sse.Event{{Type: "t", Data: []byte("a")}}},
		{name: "event twice", why: "the last counts", stream: "event: t\nevent: u\ndata: a\n\n", want: []sse.Event{{Type: "u", Data: []byte("a")}}},
		{name: "empty event", why: "it is as if none was named", stream: "event: t\nevent:\ndata: a\n\nevent\ndata: b\n\n", want: data("a", "b")},
		{name: "event without data", why: "nothing is dispatched, and the type is forgotten", stream: "event: t\n\ndata: a\n\n", want: data("a")},
		{name: "event message", why: "the type is returned as it was named", stream: "event: message\ndata: a\n\n", want: []sse.Event{{Type: "message", Data: []byte("a")}}},
		{name: "spaces in event", why: "only the first is stripped", stream: "event:  t \ndata: a\n\n", want: []sse.Event{{Type: " t ", Data: []byte("a")}}},

		{part: "9.2.6 id", name: "id", why: "it stays until there is another",
			stream: "id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n", lastID: "2",
			want: []sse.Event{{ID: "1", Data: []byte("a")}, {ID: "1", Data: []byte("b")}, {ID: "2", Data: []byte("c")}}},
		{name: "id after data", why: "it is of the whole block", stream: "data: a\nid: 1\n\n", lastID: "1", want: []sse.Event{{ID: "1", Data: []byte("a")}}},
		{name: "id alone", why: "the blank line moves it though nothing is dispatched", stream: "id: 1\n\n", lastID: "1"},
		{name: "id alone, then data", why: "events have the ID that an empty block set", stream: "id: 1\n\ndata: a\n\n", lastID: "1",
			want: []sse.Event{{ID: "1", Data: []byte("a")}}},
		{name: "id without blank line", why: "only a blank line moves it", stream: "id: 1\n\nid: 2\n", lastID: "1"},
		{name: "id of an unended event", why: "only a blank line moves it", stream: "id: 1\ndata: a\n\nid: 2\ndata: b\n", lastID: "1",
			want: []sse.Event{{ID: "1", Data: []byte("a")}}},
		{name: "empty id", why: "it resets", stream: "id: 1\n\nid:\ndata: a\n\n", want: data("a")},
		{name: "id without colon", why: "it resets", stream: "id: 1\n\nid\n\n"},
		{name: "id with NUL", why: "it is ignored", stream: "id: 1\n\nid: 2\x003\ndata: a\n\nid: \x00\n\n", lastID: "1",
			want: []sse.Event{{ID: "1", Data: []byte("a")}}},
		{name: "spaces in id", why: "only the first is stripped", stream: "id:  1 \n\n", lastID: " 1 "},
		{name: "ID in capitals", why: "names are compared as they are", stream: "ID: 1\nId: 2\n\n"},

		{part: "9.2.6 retry", name: "retry", why: "it is of one event, and stays in the Reader", stream: "retry: 3000\ndata: a\n\ndata: b\n\n", retry: 3 * time.Second,
			want: []sse.Event{{Data: []byte("a"), Retry: 3 * time.Second}, {Data: []byte("b")}}},
		{name: "retry alone", why: "it does not move on to the next event", stream: "retry: 3000\n\ndata: a\n\n", retry: 3 * time.Second, want: data("a")},
		{name: "retry without blank line", why: "it applies from its own line on", stream: "retry: 1\n", retry: time.Millisecond},
		{name: "retry without line end", why: "it is no line yet", stream: "retry: 1"},
		{name: "retry twice", why: "the last counts", stream: "retry: 1\nretry: 2\ndata: a\n\n", retry: 2 * time.Millisecond,
			want: []sse.Event{{Data: []byte("a"), Retry: 2 * time.Millisecond}}},
		{name: "retry 0", why: "it is a number", stream: "retry: 5\nretry: 0\n\n"},
		{name: "retry with leading zeros", why: "it is a decimal number", stream: "retry: 0010\n\n", retry: 10 * time.Millisecond},
		{name: "odd retries", why: "anything but ASCII digits is ignored",
			stream: "retry: 7\nretry: -1\nretry: +1\nretry: 1.5\nretry: 1e3\nretry: 0x1\nretry: 1_0\nretry:  1\nretry: 1 \nretry: \u0661\nretry: x\nretry:\nretry\n\n",
			retry:  7 * time.Millisecond},
		{name: "longest retry", why: "it is the largest that a Duration can hold", stream: "retry: 9223372036854\n\n", retry: 9223372036854 * time.Millisecond},
		{name: "longer retry", why: "it is cut, not overflowed", stream: "retry: 9223372036855\n\n", retry: 9223372036854 * time.Millisecond},
		{name: "huge retry", why: "it is cut, not overflowed", stream: "retry: " + strings.Repeat("9", 100) + "\n\n", retry: 9223372036854 * time.Millisecond},
		{name: "huge retry with a letter", why: "it is not digits alone", stream: "retry: " + strings.Repeat("9", 100) + "x\n\n"},

		{part: "9.2.5 UTF-8", name: "UTF-8", why: "it comes as it is", stream: "id: é\nevent: €\ndata: 😀\uFFFD\n\n", lastID: "é", want: []sse.Event{{ID: "é", Type: "€", Data: []byte("😀\uFFFD")}}},
		{name: "invalid bytes", why: "each is replaced, in every field", stream: "id: \xff\nevent: \xfe\xff\ndata: a\x80\xc0\xafb\n\n", lastID: "\uFFFD",
			want: []sse.Event{{ID: "\uFFFD", Type: "\uFFFD\uFFFD", Data: []byte("a\uFFFD\uFFFD\uFFFDb")}}},
		{name: "cut sequences", why: "what could have become a rune is replaced as one", stream: "data: \xe2\x82a\xf0\x9f\x98b\xf0\x9fc\xc3d\xe2\xe2\x82\n\n",
			want: data("\uFFFDa\uFFFDb\uFFFDc\uFFFDd\uFFFD\uFFFD")},
		{name: "impossible sequences", why: "surrogates, overlong forms and runes beyond the last are replaced byte by byte",
			stream: "data: \xed\xa0\x80|\xe0\x80\x80|\xf4\x90\x80\x80|\xf5\x80\n\n",
			want:   data("\uFFFD\uFFFD\uFFFD|\uFFFD\uFFFD\uFFFD|\uFFFD\uFFFD\uFFFD\uFFFD|\uFFFD\uFFFD")},
		{name: "line end in a sequence", why: "it is not swallowed", stream: "data: \xe2\x82\ndata: \xf0\r\r", want: data("\uFFFD\n\uFFFD")},

		{part: "9.2.6 the end of the stream", name: "empty stream", why: "there is nothing"},
		{name: "no blank line", why: "the event is dropped", stream: "data: a\n\ndata: b\n", want: data("a")},
		{name: "no line end", why: "the event is dropped", stream: "data: a\n\ndata: b", want: data("a")},
		{name: "CR at the end", why: "it is a whole line end", stream: "data: a\r\r", want: data("a")},
	} {
		part = cmp.Or(tt.part, part)
		want := outcome{tt.want, "EOF", tt.lastID, tt.retry}
		assert.Equal(t, want, reference(tt.stream), "the reference of the fuzz test")
		for _, f := range feeds {
			table.Run(t, part, f.name, tt.name, func(t *testing.T) {
				for _, src := range f.feed(tt.stream) {
					require.Equal(t, want, readAll(src, 0), tt.why)
				}
			})
		}
	}
	if flag.Lookup("test.run").Value.String() == "" {
		table.Check(t, "../docs/conformance.md", "server-sent events")
	}
}

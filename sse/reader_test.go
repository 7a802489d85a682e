package sse_test

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/conformance"
	"github.com/fanfare-go/fanfare/sse"
)

func ExampleNewReader() {
	stream := strings.NewReader("retry: 3000\nid: 1f-29\n\nid: 1f-2a\nevent: tick\ndata: 42\n\ndata: no id of its own\n\n")

	r := sse.NewReader(stream)
	for {
		e, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s %q %s\n", e.ID, e.Type, e.Data)
	}
	fmt.Println("again in", r.Retry(), "from", r.LastEventID())
	// Output:
	// 1f-2a "tick" 42
	// 1f-2a "" no id of its own
	// again in 3s from 1f-2a
}

func ExampleReader_All() {
	r := sse.NewReader(strings.NewReader("data: one\n\n: a comment\n\ndata: two\n\ndata: never ended\n"))
	for e, err := range r.All() {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s\n", e.Data)
	}
	// Output:
	// one
	// two
}

// outcome is all that a Reader tells of a stream.
type outcome struct {
	Events []sse.Event
	Err    string
	LastID string
	Retry  time.Duration
}

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

// feeds are the ways in which the same bytes may arrive.
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

func data(lines ...string) []sse.Event {
	var events []sse.Event
	for _, l := range lines {
		events = append(events, sse.Event{Data: []byte(l)})
	}
	return events
}

// TestReader_standard tries what WHATWG HTML 9.2.5 and 9.2.6 say.
func TestReader_standard(t *testing.T) {
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
		{name: "event message", why: "what was named is told", stream: "event: message\ndata: a\n\n", want: []sse.Event{{Type: "message", Data: []byte("a")}}},
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
		{name: "retry without blank line", why: "it holds from its own line on", stream: "retry: 1\n", retry: time.Millisecond},
		{name: "retry without line end", why: "it is no line yet", stream: "retry: 1"},
		{name: "retry twice", why: "the last counts", stream: "retry: 1\nretry: 2\ndata: a\n\n", retry: 2 * time.Millisecond,
			want: []sse.Event{{Data: []byte("a"), Retry: 2 * time.Millisecond}}},
		{name: "retry 0", why: "it is a number", stream: "retry: 5\nretry: 0\n\n"},
		{name: "retry with leading zeros", why: "it is a decimal number", stream: "retry: 0010\n\n", retry: 10 * time.Millisecond},
		{name: "odd retries", why: "anything but ASCII digits is ignored",
			stream: "retry: 7\nretry: -1\nretry: +1\nretry: 1.5\nretry: 1e3\nretry: 0x1\nretry: 1_0\nretry:  1\nretry: 1 \nretry: \u0661\nretry: x\nretry:\nretry\n\n",
			retry:  7 * time.Millisecond},
		{name: "longest retry", why: "a Duration just holds it", stream: "retry: 9223372036854\n\n", retry: 9223372036854 * time.Millisecond},
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

var errTooFar = errors.New("test: read beyond the script")

// script is a stream that arrives in these pieces and then hangs: a Read beyond
// them is an error.
type script []string

func (s *script) Read(p []byte) (int, error) {
	if len(*s) == 0 {
		return 0, errTooFar
	}
	n := copy(p, (*s)[0])
	if (*s)[0] = (*s)[0][n:]; (*s)[0] == "" {
		*s = (*s)[1:]
	}
	return n, nil
}

func TestReader_doesNotWait(t *testing.T) {
	for _, tt := range []struct {
		name, why string
		script    script
		want      []sse.Event
	}{
		{"LF", "the blank line is there", script{"data: a\n\n"}, data("a")},
		{"CR", "a LF may follow, or not for a long time", script{"data: a\r\r"}, data("a")},
		{"CRLF", "the blank line is there", script{"data: a\r\n\r\n"}, data("a")},
		{"LF after the event", "it belongs to the blank line before", script{"data: a\r\n\r", "\ndata: b\r\n\r"}, data("a", "b")},
		{"LF after a line", "it is no blank line", script{"data: a\r", "\n", "data: b\r", "\n\r"}, data("a\nb")},
		{"LF after a blank line", "the second LF is a blank line of its own", script{"id: 1\r\r", "\n\ndata: a\n\n"}, []sse.Event{{ID: "1", Data: []byte("a")}}},
		{"several at once", "each has arrived", script{"data: a\n\ndata: b\n\n"}, data("a", "b")},
		{"pieces", "lines go on where they stopped", script{"da", "ta: a", "b", "\nda", "ta:", " c\n", "\n"}, data("ab\nc")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := sse.NewReader(&tt.script)
			for i, want := range tt.want {
				e, err := r.Read()
				require.NoError(t, err, "event %d: %s", i, tt.why)
				assert.Equal(t, want, e, "event %d: %s", i, tt.why)
			}
			_, err := r.Read()
			require.ErrorIs(t, err, errTooFar)
		})
	}
}

func TestReader_state(t *testing.T) {
	r := sse.NewReader(strings.NewReader("id: 1\ndata: a\n\nretry: 5\nid: 2\n\ndata: b\n\n"))
	assert.Empty(t, r.LastEventID(), "nothing is read yet")
	assert.Zero(t, r.Retry(), "nothing is read yet")

	_, err := r.Read()
	require.NoError(t, err)
	assert.Equal(t, "1", r.LastEventID(), "what is behind the event is not read yet, though it is buffered")
	assert.Zero(t, r.Retry())

	e, err := r.Read()
	require.NoError(t, err)
	assert.Equal(t, sse.Event{ID: "2", Data: []byte("b")}, e)
	assert.Equal(t, "2", r.LastEventID())
	assert.Equal(t, 5*time.Millisecond, r.Retry())
}

func TestReader_ownership(t *testing.T) {
	r := sse.NewReader(strings.NewReader("data: aaaa\n\ndata: bbbb\n\n"))
	first, err := r.Read()
	require.NoError(t, err)
	second, err := r.Read()
	require.NoError(t, err)
	for i := range second.Data {
		second.Data[i] = 'x'
	}
	_ = append(second.Data, "yyyyyyyy"...)
	assert.Equal(t, "aaaa", string(first.Data), "Data is the caller's to keep")
}

func TestReader_errors(t *testing.T) {
	errCut := errors.New("test: cut")
	for _, tt := range []struct {
		name, why string
		src       io.Reader
		want      []sse.Event
		err       error
	}{
		{"error", "it is returned as it is", iotest.ErrReader(errCut), nil, errCut},
		{"after an event", "what has arrived comes first", io.MultiReader(strings.NewReader("data: a\n\ndata: b"), iotest.ErrReader(errCut)), data("a"), errCut},
		{"with an event", "what has arrived comes first", iotest.DataErrReader(io.MultiReader(strings.NewReader("data: a\n\n"), iotest.ErrReader(errCut))), data("a"), errCut},
		{"cut body", "it is no clean end", io.MultiReader(strings.NewReader("data: a\n\n"), iotest.ErrReader(io.ErrUnexpectedEOF)), data("a"), io.ErrUnexpectedEOF},
		{"timeout", "it is an error as any other, though the source might go on", iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("\ndata: a\n\n"))), nil, iotest.ErrTimeout},
		{"end", "it is io.EOF itself", strings.NewReader("data: a\n\n"), data("a"), io.EOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := sse.NewReader(tt.src)
			for _, want := range tt.want {
				e, err := r.Read()
				require.NoError(t, err, tt.why)
				assert.Equal(t, want, e, tt.why)
			}
			for range 3 {
				e, err := r.Read()
				assert.Same(t, tt.err, err, "%s, and again", tt.why)
				assert.Zero(t, e)
			}
		})
	}
}

// idler returns nothing and no error a number of times before each piece.
type idler struct {
	times, left, calls int
	src                io.Reader
}

func (i *idler) Read(p []byte) (int, error) {
	i.calls++
	if i.left > 0 {
		i.left--
		return 0, nil
	}
	i.left = i.times
	return i.src.Read(p)
}

func TestReader_noProgress(t *testing.T) {
	src := &idler{left: math.MaxInt}
	r := sse.NewReader(src)
	for range 3 {
		_, err := r.Read()
		require.ErrorIs(t, err, io.ErrNoProgress)
	}
	assert.Equal(t, 100, src.calls, "it gives up, once and for all")

	slow := &idler{times: 99, left: 99, src: iotest.OneByteReader(strings.NewReader("data: a\n\n"))}
	assert.Equal(t, outcome{Events: data("a"), Err: "EOF"}, readAll(slow, 0), "a byte now and then is progress")
}

func TestReader_All(t *testing.T) {
	t.Run("end", func(t *testing.T) {
		r := sse.NewReader(strings.NewReader("data: a\n\ndata: b\n\n"))
		var got []sse.Event
		for e, err := range r.All() {
			require.NoError(t, err, "io.EOF is not yielded")
			got = append(got, e)
		}
		assert.Equal(t, data("a", "b"), got)
		for range r.All() {
			t.Error("it has ended")
		}
	})
	t.Run("error", func(t *testing.T) {
		r := sse.NewReader(io.MultiReader(strings.NewReader("data: a\n\n"), iotest.ErrReader(io.ErrUnexpectedEOF)))
		var got []sse.Event
		var errs []error
		for e, err := range r.All() {
			got, errs = append(got, e), append(errs, err)
		}
		assert.Equal(t, append(data("a"), sse.Event{}), got)
		assert.Equal(t, []error{nil, io.ErrUnexpectedEOF}, errs, "it is yielded once")
	})
	t.Run("break", func(t *testing.T) {
		r := sse.NewReader(strings.NewReader("data: a\n\ndata: b\n\n"))
		for e := range r.All() {
			assert.Equal(t, "a", string(e.Data))
			break
		}
		e, err := r.Read()
		require.NoError(t, err)
		assert.Equal(t, "b", string(e.Data), "the rest is left")
	})
}

func TestReader_MaxEvent(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	const tooLarge = "sse: event too large: more than 10 bytes"
	for _, tt := range []struct {
		name, why, stream string
		want              outcome
	}{
		{"just fits", "the limit is the most that is allowed", "data: " + x(10) + "\n\n", outcome{Events: data(x(10)), Err: "EOF"}},
		{"one line", "it is one byte too long", "data: a\n\ndata: " + x(11) + "\n\n", outcome{Events: data("a"), Err: tooLarge}},
		{"one line, no space", "the line may be that long, but not the data", "data:" + x(11) + "\n\n", outcome{Err: tooLarge}},
		{"several lines", "the LF between them is data", "data: " + x(5) + "\ndata: " + x(4) + "\n\n", outcome{Events: data(x(5) + "\n" + x(4)), Err: "EOF"}},
		{"several lines too long", "the LF between them is data", "data: " + x(5) + "\ndata: " + x(5) + "\n\n", outcome{Err: tooLarge}},
		{"empty lines", "each adds a LF", strings.Repeat("data\n", 12) + "\n", outcome{Err: tooLarge}},
		{"several events", "each has the limit to itself", strings.Repeat("data: "+x(10)+"\n\n", 2), outcome{Events: data(x(10), x(10)), Err: "EOF"}},
		{"comment just fits", "a line is a line", ":" + x(15) + "\n", outcome{Err: "EOF"}},
		{"comment", "a line is a line", ":" + x(16) + "\n", outcome{Err: tooLarge}},
		{"unknown field", "a line is a line", x(17) + "\n", outcome{Err: tooLarge}},
		{"unended line", "there is no need to wait for its end", "data: " + x(11), outcome{Err: tooLarge}},
		{"unended line that fits", "it may go no further", "data: " + x(10), outcome{Err: "EOF"}},
		{"id", "a line is a line", "id: 1\n\nid: 2\nid: " + x(13) + "\n\n", outcome{Err: tooLarge, LastID: "1"}},
		{"replaced bytes", "it is what the caller gets that counts", "data: \xff\xff\xff\n\ndata: \xff\xff\xff\xff\n\n", outcome{Events: data("\uFFFD\uFFFD\uFFFD"), Err: tooLarge}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, f := range feeds {
				for _, src := range f.feed(tt.stream) {
					assert.Equal(t, tt.want, readAll(src, 10), "%s; fed %s", tt.why, f.name)
				}
			}
		})
	}

	t.Run("sticky", func(t *testing.T) {
		r := sse.NewReader(strings.NewReader("data: " + x(11) + "\n\ndata: a\n\n"))
		r.MaxEvent = 10
		for range 3 {
			_, err := r.Read()
			require.ErrorIs(t, err, sse.ErrTooLarge, "the rest of the stream is not trusted")
		}
	})
	t.Run("default", func(t *testing.T) {
		fits := "data: " + x(1<<20) + "\n\n"
		assert.Equal(t, "EOF", readAll(strings.NewReader(fits), 0).Err)
		assert.Equal(t, "EOF", readAll(strings.NewReader(fits), -1).Err)
		assert.Equal(t, "sse: event too large: more than 1048576 bytes", readAll(strings.NewReader("data: x"+fits[6:]), 0).Err)
	})
	t.Run("none to speak of", func(t *testing.T) {
		assert.Len(t, readAll(strings.NewReader("data: a\n\n"), math.MaxInt).Events, 1, "no sum overflows")
	})
}

// endless repeats itself for ever, and notes what is asked of it.
type endless struct {
	text    string
	at      int
	read    int
	largest int
}

func (e *endless) Read(p []byte) (int, error) {
	e.largest = max(e.largest, len(p))
	for i := range p {
		p[i] = e.text[e.at]
		e.at = (e.at + 1) % len(e.text)
	}
	e.read += len(p)
	return len(p), nil
}

func TestReader_boundedMemory(t *testing.T) {
	const limit = 1 << 20
	for _, tt := range []struct{ name, text string }{
		{"a line without end", "x"},
		{"a comment without end", ":"},
		{"data without end", "data: some text\n"},
		{"bytes that grow when replaced", "data: \xff\xff\xff\xff\xff\xff\xff\xff\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			src := &endless{text: tt.text}
			r := sse.NewReader(src)
			runtime.ReadMemStats(&before)
			_, err := r.Read()
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, sse.ErrTooLarge)
			assert.Less(t, src.read, 2*limit, "it reads no further than it must")
			assert.LessOrEqual(t, src.largest, 4<<10, "it reads ahead no further than that")
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16*limit), "all that was ever allocated, while growing too")
		})
	}
}

func TestReader_smallBuffer(t *testing.T) {
	var asked []int
	r := sse.NewReader(readerFunc(func(p []byte) (int, error) {
		asked = append(asked, len(p))
		if len(asked) == 5 {
			return 0, io.EOF
		}
		return copy(p, "data: x\n\n"), nil
	}))
	for range r.All() {
	}
	require.Len(t, asked, 5)
	for _, n := range asked {
		assert.LessOrEqual(t, n, 1<<10, "while little comes the buffer stays small")
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// cycle repeats a stream for ever.
type cycle struct {
	stream []byte
	rest   []byte
}

func (c *cycle) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		c.rest = c.stream
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func BenchmarkReader_Read(b *testing.B) {
	line := strings.Repeat("x", 128)
	for _, bb := range []struct{ name, event string }{
		{"line", "event: tick\nid: 1f-2a3b4c\ndata: " + line + "\n\n"},
		{"CR", "event: tick\rid: 1f-2a3b4c\rdata: " + line + "\r\r"},
		{"lines", "id: 1f-2a3b4c\n" + strings.Repeat("data: "+line+"\n", 16) + "\n"},
		{"64KiB", "id: 1f-2a3b4c\ndata: " + strings.Repeat("x", 64<<10) + "\n\n"},
		{"CRs alone", strings.Repeat("\r", 4<<10) + "data\r\r"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			stream := bytes.Repeat([]byte(bb.event), 1+(64<<10)/len(bb.event))
			r := sse.NewReader(&cycle{stream: stream})
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.event)))
			for b.Loop() {
				if _, err := r.Read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

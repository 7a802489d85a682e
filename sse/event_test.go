package sse_test

import (
	"encoding"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
)

var _ encoding.TextAppender = sse.Event{}

func ExampleEvent_AppendText() {
	b, err := sse.Event{ID: "1f-2a", Type: "tick", Data: []byte("first line\nsecond line")}.AppendText(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err = sse.Event{ID: "1f-2b"}.AppendText(b) // dispatches nothing, moves the client's last event ID
	if err != nil {
		fmt.Println(err)
		return
	}
	os.Stdout.Write(b)

	_, err = sse.Event{Type: "tick\ndata: forged"}.AppendText(nil)
	fmt.Println(err)
	// Output:
	// event: tick
	// id: 1f-2a
	// data: first line
	// data: second line
	//
	// id: 1f-2b
	//
	// sse: invalid event: Type has a CR, LF or NUL: escape or remove it
}

// An event is written so that a client reads the same event.
func TestEventOnTheWire(t *testing.T) {
	for _, tt := range []struct {
		name, why string
		event     sse.Event
		want      string
	}{
		{"zero", "there is nothing to write, not even a blank line", sse.Event{}, ""},
		{"data", "the common case", sse.Event{Data: []byte("a")}, "data: a\n\n"},
		{"order", "retry and id apply before the event is dispatched",
			sse.Event{ID: "i", Type: "t", Data: []byte("d"), Retry: time.Second},
			"retry: 1000\nevent: t\nid: i\ndata: d\n\n"},
		{"empty data", "browsers dispatch it as an empty string", sse.Event{Data: []byte{}}, "data: \n\n"},
		{"type alone", "without data browsers would dispatch nothing", sse.Event{Type: "t"}, "event: t\ndata: \n\n"},
		{"id alone", "a position fires nothing", sse.Event{ID: "i"}, "id: i\n\n"},
		{"retry alone", "it fires nothing", sse.Event{Retry: time.Second}, "retry: 1000\n\n"},
		{"retry and id", "the beginning of a stream", sse.Event{ID: "i", Retry: time.Second}, "retry: 1000\nid: i\n\n"},
		{"leading space", "clients strip only the space we add", sse.Event{ID: " i", Type: " t", Data: []byte(" d")},
			"event:  t\nid:  i\ndata:  d\n\n"},
		{"colons", "only the first colon of a line means anything", sse.Event{ID: ":", Type: ":", Data: []byte(":d\nid: x")},
			"event: :\nid: :\ndata: :d\ndata: id: x\n\n"},
		{"LF", "ends a line", sse.Event{Data: []byte("a\nb")}, "data: a\ndata: b\n\n"},
		{"CR", "ends a line, and would forge fields if written as it is", sse.Event{Data: []byte("a\rid: b")}, "data: a\ndata: id: b\n\n"},
		{"CRLF", "is one end of a line", sse.Event{Data: []byte("a\r\nb")}, "data: a\ndata: b\n\n"},
		{"CR CRLF", "are two", sse.Event{Data: []byte("a\r\r\nb")}, "data: a\ndata: \ndata: b\n\n"},
		{"LF CR", "are two", sse.Event{Data: []byte("a\n\rb")}, "data: a\ndata: \ndata: b\n\n"},
		{"trailing LF", "survives as an empty last line", sse.Event{Data: []byte("a\n")}, "data: a\ndata: \n\n"},
		{"trailing CR", "survives too", sse.Event{Data: []byte("a\r")}, "data: a\ndata: \n\n"},
		{"trailing CRLF", "survives too", sse.Event{Data: []byte("a\r\n")}, "data: a\ndata: \n\n"},
		{"LF alone", "is two empty lines", sse.Event{Data: []byte("\n")}, "data: \ndata: \n\n"},
		{"blank line", "must not end the event", sse.Event{Data: []byte("a\n\nb")}, "data: a\ndata: \ndata: b\n\n"},
		{"NUL in data", "is text", sse.Event{Data: []byte("a\x00b")}, "data: a\x00b\n\n"},
		{"other line separators", "mean nothing to the format", sse.Event{ID: "\u2028", Type: "\u0085", Data: []byte("\v\f\u2029")},
			"event: \u0085\nid: \u2028\ndata: \v\f\u2029\n\n"},
		{"byte order mark", "only one before the first line is stripped", sse.Event{Data: []byte("\uFEFFa")}, "data: \uFEFFa\n\n"},
		{"replacement character", "is UTF-8 like any other", sse.Event{Data: []byte("\uFFFD")}, "data: \uFFFD\n\n"},
		{"short retry", "with 0, clients would reconnect at once", sse.Event{Retry: 1}, "retry: 1\n\n"},
		{"uneven retry", "never sooner than asked", sse.Event{Retry: time.Millisecond + 1}, "retry: 2\n\n"},
		{"longest retry", "rounding must not overflow", sse.Event{Retry: math.MaxInt64}, "retry: 9223372036855\n\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := tt.event.AppendText([]byte("before"))
			require.NoError(t, err, tt.why)
			assert.Equal(t, "before"+tt.want, string(b), tt.why)

			b, err = tt.event.AppendText(nil)
			require.NoError(t, err, tt.why)
			assert.Equal(t, tt.want, string(b), tt.why)
		})
	}
}

// An event that a client would read differently is refused by an error that names the field.
func TestEventThatClientsWouldReadDifferentlyIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name, why string
		event     sse.Event
		field     string
	}{
		{"LF in ID", "it would forge a field", sse.Event{ID: "a\nb"}, "ID has"},
		{"CR in ID", "it would forge a field", sse.Event{ID: "a\rb"}, "ID has"},
		{"NUL in ID", "clients ignore such an id", sse.Event{ID: "a\x00"}, "ID has"},
		{"LF in Type", "it would forge a field", sse.Event{Type: "a\n\ndata: b"}, "Type has"},
		{"CR in Type", "it would forge a field", sse.Event{Type: "\r"}, "Type has"},
		{"NUL in Type", "no listener has such a name", sse.Event{Type: "\x00"}, "Type has"},
		{"ID not UTF-8", "the client would send back another", sse.Event{ID: "\xff"}, "ID is not"},
		{"Type not UTF-8", "it would arrive as another", sse.Event{Type: "\xc3"}, "Type is not"},
		{"Data not UTF-8", "it would arrive changed", sse.Event{Data: []byte("a\xed\xa0\x80")}, "Data is not"},
		{"negative Retry", "there is no such wait", sse.Event{Data: []byte("a"), Retry: -1}, "Retry is negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := tt.event.AppendText([]byte("before"))
			require.ErrorIs(t, err, sse.ErrInvalidEvent, tt.why)
			assert.ErrorContains(t, err, "sse: invalid event: "+tt.field, "the error names the field")
			assert.Equal(t, "before", string(b), "b is as it was")

			b, err = tt.event.AppendText(nil)
			require.Error(t, err)
			assert.Nil(t, b, "b is as it was")
		})
	}
}

// AppendText grows its buffer at most once, and not at all where there is room.
func TestAppendTextGrowsItsBufferOnce(t *testing.T) {
	e := sse.Event{ID: "i", Type: "t", Data: []byte(strings.Repeat("line\r\n\r\n", 1000)), Retry: time.Second}
	grown := testing.AllocsPerRun(10, func() { e.AppendText(nil) })
	assert.LessOrEqual(t, grown, 2.0, "it grows once, however many lines there are; the race detector makes that two")

	b := make([]byte, 0, 1<<20)
	given := testing.AllocsPerRun(10, func() { e.AppendText(b) })
	assert.Zero(t, given, "it uses the room that it is given")
}

var newLines = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// arrives returns what a client makes of e, and whether it dispatches an event.
func arrives(e sse.Event, lastID string) (sse.Event, bool) {
	if e.ID == "" {
		e.ID = lastID
	}
	dispatched := e.Data != nil || e.Type != ""
	e.Data = []byte(newLines.Replace(string(e.Data)))
	ms := e.Retry.Milliseconds()
	if e.Retry%time.Millisecond != 0 {
		ms++
	}
	e.Retry = time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
	return e, dispatched
}

func FuzzEvent(f *testing.F) {
	f.Add("1f-2a", "tick", []byte("a\nb"), false, int64(0), "", "", []byte("c"), false, int64(0))
	f.Add("1", "", []byte(nil), true, int64(time.Second), "", "t", []byte(nil), true, int64(1))
	f.Add(" 1", " ", []byte(" "), false, int64(math.MaxInt64), ":", ":", []byte("\r\n\r\r\n"), false, int64(-1))
	f.Add("", "", []byte("\n"), false, int64(1e6+1), "é", "\u2028", []byte("\uFEFF\x00\r"), false, int64(1e6))
	f.Add("a\nb", "a\rb", []byte("\xff"), false, int64(0), "\x00", "\xff", []byte("\xe2\x82"), false, int64(0))
	f.Fuzz(func(t *testing.T,
		id1, type1 string, data1 []byte, nil1 bool, retry1 int64,
		id2, type2 string, data2 []byte, nil2 bool, retry2 int64,
	) {
		if nil1 {
			data1 = nil
		} else if data1 == nil {
			data1 = []byte{}
		}
		if nil2 {
			data2 = nil
		} else if data2 == nil {
			data2 = []byte{}
		}

		var wire []byte
		var want []sse.Event
		var lastID string
		var retry time.Duration
		for _, e := range []sse.Event{
			{ID: id1, Type: type1, Data: data1, Retry: time.Duration(retry1)},
			{ID: id2, Type: type2, Data: data2, Retry: time.Duration(retry2)},
		} {
			writable := e.Retry >= 0 && !strings.ContainsAny(e.ID+e.Type, "\r\n\x00") &&
				utf8.ValidString(e.ID) && utf8.ValidString(e.Type) && utf8.Valid(e.Data)
			before := string(wire)
			var err error
			wire, err = e.AppendText(wire)
			require.Equal(t, writable, err == nil, "%v", err)
			if !writable {
				require.ErrorIs(t, err, sse.ErrInvalidEvent)
				require.Equal(t, before, string(wire))
				continue
			}
			require.True(t, strings.HasPrefix(string(wire), before))
			got, dispatched := arrives(e, lastID)
			lastID = got.ID
			if got.Retry > 0 {
				retry = got.Retry
			}
			if dispatched {
				want = append(want, got)
			}
		}

		got := readAll(strings.NewReader(string(wire)), 1<<30)
		require.Equal(t, outcome{want, "EOF", lastID, retry}, got)
	})
}

func BenchmarkEvent_AppendText(b *testing.B) {
	line := strings.Repeat("x", 128)
	for _, bb := range []struct {
		name string
		data string
	}{
		{"line", line},
		{"lines", strings.Repeat(line+"\n", 15) + line},
		{"64KiB", strings.Repeat("x", 64<<10)},
	} {
		e := sse.Event{ID: "1f-2a3b4c", Type: "tick", Data: []byte(bb.data)}
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.data)))
			for b.Loop() {
				e.AppendText(nil)
			}
		})
		b.Run(bb.name+"/reuse", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.data)))
			var buf []byte
			for b.Loop() {
				buf, _ = e.AppendText(buf[:0])
			}
		})
	}
}

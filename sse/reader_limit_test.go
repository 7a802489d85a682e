package sse_test

import (
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/sse"
)

// An event whose data, or a stream whose line, exceeds MaxEvent ends reading with ErrTooLarge,
// at the same place however the bytes arrive.
func TestMaxEventBoundsDataAndLines(t *testing.T) {
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
		{"replaced bytes", "the size of the returned data counts", "data: \xff\xff\xff\n\ndata: \xff\xff\xff\xff\n\n", outcome{Events: data("\uFFFD\uFFFD\uFFFD"), Err: tooLarge}},
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
			require.ErrorIs(t, err, sse.ErrTooLarge, "every Read returns it from then on")
		}
	})
	t.Run("default", func(t *testing.T) {
		fits := "data: " + x(1<<20) + "\n\n"
		assert.Equal(t, "EOF", readAll(strings.NewReader(fits), 0).Err)
		assert.Equal(t, "sse: event too large: more than 1048576 bytes", readAll(strings.NewReader("data: x"+fits[6:]), 0).Err)
	})
	t.Run("the largest limit", func(t *testing.T) {
		assert.Len(t, readAll(strings.NewReader("data: a\n\n"), math.MaxInt).Events, 1, "no sum overflows")
	})
}

// endless repeats a text without end, and records how much is read.
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

// A hostile stream makes a Reader allocate no more than a small multiple of MaxEvent.
func TestReaderBuffersASmallMultipleOfMaxEvent(t *testing.T) {
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

// The read buffer stays small while little arrives.
func TestBufferStaysSmallWhileLittleArrives(t *testing.T) {
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
		assert.LessOrEqual(t, n, 1<<10, "the buffer stays small while little arrives")
	}
}

// A negative MaxEvent is an error of the first Read that names the field, and the source
// is not read.
func TestNegativeMaxEventIsAnError(t *testing.T) {
	r := sse.NewReader(strings.NewReader("data: a\n\n"))
	r.MaxEvent = -1
	for range 2 {
		_, err := r.Read()
		require.EqualError(t, err, "sse: Reader.MaxEvent is -1: set it to 0 for 1048576")
	}
	r.MaxEvent = 0
	e, err := r.Read()
	require.NoError(t, err)
	assert.Equal(t, "a", string(e.Data))
}

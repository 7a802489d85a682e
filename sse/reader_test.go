package sse_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

var errTooFar = errors.New("test: read beyond the script")

// script is a stream that arrives in these pieces. A Read after the last one is an error.
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

// Read waits for no byte after the blank line that ends its event, also where an LF may follow
// a CR.
func TestReadReturnsAsSoonAsTheBlankLineArrived(t *testing.T) {
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

// LastEventID and Retry are as of the last event that was returned, not of what is buffered.
func TestLastEventIDAndRetryAreAsOfTheLastRead(t *testing.T) {
	r := sse.NewReader(strings.NewReader("id: 1\ndata: a\n\nretry: 5\nid: 2\n\ndata: b\n\n"))
	assert.Empty(t, r.LastEventID(), "nothing is read yet")
	assert.Zero(t, r.Retry(), "nothing is read yet")

	_, err := r.Read()
	require.NoError(t, err)
	assert.Equal(t, "1", r.LastEventID(), "what follows the event has not been read yet, although it is buffered")
	assert.Zero(t, r.Retry())

	e, err := r.Read()
	require.NoError(t, err)
	assert.Equal(t, sse.Event{ID: "2", Data: []byte("b")}, e)
	assert.Equal(t, "2", r.LastEventID())
	assert.Equal(t, 5*time.Millisecond, r.Retry())
}

// The Data of an event belongs to the caller.
func TestDataBelongsToTheCaller(t *testing.T) {
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

// An error of the underlying reader is returned as it is, after the events that arrived before
// it, and by every Read from then on.
func TestReadReturnsTheErrorOfItsSource(t *testing.T) {
	errCut := errors.New("test: cut")
	for _, tt := range []struct {
		name, why string
		src       io.Reader
		want      []sse.Event
		err       error
	}{
		{"error", "it is returned as it is", iotest.ErrReader(errCut), nil, errCut},
		{"after an event", "events that have arrived come first", io.MultiReader(strings.NewReader("data: a\n\ndata: b"), iotest.ErrReader(errCut)), data("a"), errCut},
		{"with an event", "events that have arrived come first", iotest.DataErrReader(io.MultiReader(strings.NewReader("data: a\n\n"), iotest.ErrReader(errCut))), data("a"), errCut},
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

// idler returns neither bytes nor an error a number of times before each Read of its source.
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

// A source that keeps returning neither bytes nor an error is given up with io.ErrNoProgress.
func TestReadGivesUpOnASourceWithoutProgress(t *testing.T) {
	src := &idler{left: math.MaxInt}
	r := sse.NewReader(src)
	for range 3 {
		_, err := r.Read()
		require.ErrorIs(t, err, io.ErrNoProgress)
	}
	assert.Equal(t, 100, src.calls, "it gives up, and does not read again")

	slow := &idler{times: 99, left: 99, src: iotest.OneByteReader(strings.NewReader("data: a\n\n"))}
	assert.Equal(t, outcome{Events: data("a"), Err: "EOF"}, readAll(slow, 0), "a byte now and then is progress")
}

// All yields io.EOF never and any other error once. What the caller did not range over is left
// to Read.
func TestAllYieldsEveryErrorButEOF(t *testing.T) {
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

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// cycle repeats a stream without end.
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

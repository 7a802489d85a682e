package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"
	"unicode/utf8"
)

// ErrTooLarge is wrapped by the error of a [Reader] whose stream holds an event
// or a line beyond [Reader.MaxEvent].
var ErrTooLarge = errors.New("sse: event too large")

const (
	defaultMaxEvent = 1 << 20
	minBuffer       = 512 // most readers are idle most of the time
	maxBuffer       = 4096
	maxEmptyReads   = 100
)

// Reader reads the events of a stream as a browser does (WHATWG HTML 9.2.5 and
// 9.2.6): an event is there as soon as its blank line has arrived, and invalid
// UTF-8 becomes U+FFFD.
//
// It belongs to one goroutine at a time. [NewReader] makes one.
type Reader struct {
	// MaxEvent is the most bytes that the data of an event may have. A line of
	// the stream, whatever it holds, may have as many behind "data: ". Beyond
	// that reading ends with [ErrTooLarge], and no more than a small multiple is
	// ever buffered. If zero or less, 1 MiB. Set it before the first Read.
	MaxEvent int

	src  io.Reader
	err  error  // what src, or the stream, has ended with
	buf  []byte // what src reads into
	rest []byte // the part of buf not yet used
	line []byte // the beginning of a line that buf did not hold whole

	cr      bool // the last line ended with CR: a following LF belongs to it
	started bool // the first line, which may have a byte order mark, is past

	block  Event // what the lines since the last blank line have set, and the ID
	lastID string
	retry  time.Duration
}

// NewReader returns a Reader of the stream r, often the body of a response. It
// reads ahead of the event that it returns, and closes nothing.
func NewReader(r io.Reader) *Reader {
	return &Reader{src: r}
}

// Read returns the next event. It waits for no byte beyond the event's blank
// line.
//
// The event's ID is the stream's last event ID, whichever block set it; its
// Type is empty where the stream names none, which the standard calls "message";
// its Data is never nil, has LF between its lines, and is the caller's to keep;
// its Retry is zero unless its own block set one.
//
// At the end of the stream Read returns [io.EOF]; an event that no blank line
// has ended by then is dropped, as the standard wants it. Other errors of the
// underlying reader are returned as they are, and an event or a line beyond
// MaxEvent is [ErrTooLarge]. After an error every Read returns it again.
func (r *Reader) Read() (Event, error) {
	for {
		line, err := r.readLine()
		if err != nil {
			return Event{}, err
		}
		if len(line) > 0 {
			r.field(line)
			continue
		}
		// The ID moves before it is known whether there is an event (9.2.6).
		e := r.block
		r.block = Event{ID: e.ID}
		r.lastID = e.ID
		if e.Data != nil {
			return e, nil
		}
	}
}

// All returns the events until the stream ends. [io.EOF] is not among them; any
// other error is the last pair, with a zero Event. Events that the caller did
// not range over are left to Read, or to another All.
func (r *Reader) All() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			e, err := r.Read()
			if err == io.EOF || !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// LastEventID returns the last event ID of the stream, as far as it was read: it
// is what a client sends as Last-Event-ID when it reconnects, unless it is empty.
// Blocks that hold no event move it too.
func (r *Reader) LastEventID() string { return r.lastID }

// Retry returns how long the stream last told its client to wait before it
// reconnects, as far as it was read. If it has told nothing, zero.
func (r *Reader) Retry() time.Duration { return r.retry }

func (r *Reader) maxEvent() int {
	if r.MaxEvent <= 0 {
		return defaultMaxEvent
	}
	return r.MaxEvent
}

// field takes in a line that is not blank.
func (r *Reader) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = decode(bytes.TrimPrefix(value, []byte(" "))) // one space, not all
	switch string(name) {                                // a comment's is empty
	case "data":
		if r.block.Data == nil {
			r.block.Data = make([]byte, 0, len(value))
		} else {
			r.block.Data = append(r.block.Data, '\n')
		}
		r.block.Data = append(r.block.Data, value...)
		if len(r.block.Data) > r.maxEvent() {
			r.tooLarge()
		}
	case "event":
		r.block.Type = string(value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			r.block.ID = string(value)
		}
	case "retry": // in force at once, whether the block is ended or not
		if d, ok := parseRetry(value); ok {
			r.block.Retry, r.retry = d, d
		}
	}
}

// readLine returns the next line without its end. The line is good until the
// next call.
func (r *Reader) readLine() ([]byte, error) {
	if cap(r.line) > maxBuffer {
		r.line = nil // an idle reader keeps no large buffer
	}
	r.line = r.line[:0]
	for {
		// A CR ends its line at once: waiting for what follows it would hold the
		// event back until the next one.
		if r.cr && len(r.rest) > 0 {
			r.rest = bytes.TrimPrefix(r.rest, []byte("\n"))
			r.cr = false
		}
		n := lineLen(r.rest)
		if len(r.line)+n-len("data: ") > r.maxEvent() {
			r.tooLarge()
			return nil, r.err
		}
		if n == len(r.rest) {
			r.line = append(r.line, r.rest...)
			if err := r.fill(); err != nil {
				return nil, err
			}
			continue
		}

		line := r.rest[:n]
		r.cr = r.rest[n] == '\r'
		r.rest = r.rest[n+1:]
		if len(r.line) > 0 {
			r.line = append(r.line, line...)
			line = r.line
		}
		if !r.started {
			r.started = true
			line = bytes.TrimPrefix(line, []byte("\uFEFF"))
		}
		return line, nil
	}
}

// fill replaces rest, which has been used up.
func (r *Reader) fill() error {
	r.rest = nil
	if r.buf == nil {
		r.buf = make([]byte, minBuffer)
	}
	for range maxEmptyReads {
		if r.err != nil {
			return r.err
		}
		var n int
		n, r.err = r.src.Read(r.buf)
		if n > 0 {
			r.rest = r.buf[:n]
			if n == len(r.buf) && n < maxBuffer {
				r.buf = make([]byte, 2*n) // for the next time
			}
			return nil
		}
	}
	if r.err == nil {
		r.err = io.ErrNoProgress
	}
	return r.err
}

// tooLarge ends reading. What is buffered goes unused, so that the error comes
// at the same place however the stream arrives.
func (r *Reader) tooLarge() {
	r.err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, r.maxEvent())
	r.rest, r.line, r.block = nil, nil, Event{}
}

// lineLen returns how many bytes stand before the first CR or LF, or all. It
// looks at all of b for each line that ends with CR, which is why buf is small.
func lineLen(b []byte) int {
	n := bytes.IndexByte(b, '\n')
	if n < 0 {
		n = len(b)
	}
	if cr := bytes.IndexByte(b[:n], '\r'); cr >= 0 {
		return cr
	}
	return n
}

// decode returns b with U+FFFD for each maximal part that is not UTF-8, as the
// decoder of browsers has it (WHATWG Encoding 8.1.1); Go's own functions put one
// for each byte, or one for several parts. It copies b only then.
func decode(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	out := make([]byte, 0, len(b)+len(b)/2)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			// What might still become a rune goes into the same U+FFFD.
			for n < len(b) && !utf8.FullRune(b[:n+1]) {
				n++
			}
		}
		out = utf8.AppendRune(out, r)
		b = b[n:]
	}
	return out
}

// parseRetry reads milliseconds: ASCII digits alone, at least one, or the field
// is ignored. A number that a Duration cannot hold becomes the largest it can.
func parseRetry(digits []byte) (d time.Duration, ok bool) {
	const most = math.MaxInt64 / int64(time.Millisecond)
	var ms int64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		ms = min(10*ms+int64(c-'0'), most)
	}
	return time.Duration(ms) * time.Millisecond, len(digits) > 0
}

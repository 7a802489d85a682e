package sse

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"
	"unicode/utf8"
)

// ErrTooLarge is wrapped by the error of a [Reader] or a [Client] whose stream has an
// event, or a line, that exceeds MaxEvent.
var ErrTooLarge = errors.New("sse: event too large")

const (
	defaultMaxEvent = 1 << 20

	// The read buffer begins small, since most readers are idle most of the time, and
	// doubles while reads fill it.
	minBuffer = 512
	maxBuffer = 4096

	// maxEmptyReads is how many reads in a row may return neither bytes nor an error.
	maxEmptyReads = 100
)

// Reader reads the events of one stream as a browser does (WHATWG HTML 9.2.5 and
// 9.2.6). It returns an event as soon as its blank line has arrived, and replaces
// invalid UTF-8 by U+FFFD. [NewReader] returns one.
//
// A Reader is not safe for concurrent use.
type Reader struct {
	// MaxEvent is the largest size in bytes of an event's data. Each line of the stream,
	// whatever its field, may be as long as a line of data with MaxEvent bytes. Reading
	// ends with [ErrTooLarge] beyond that, before more than a small multiple of MaxEvent
	// has been buffered. If zero, 1 MiB. If negative, Read returns an error. It is set
	// before the first Read.
	MaxEvent int

	// The source, and what was read from it.
	source io.Reader
	err    error  // final: how the source ended, or why reading did
	buf    []byte // for the next read of the source
	unread []byte // the part of buf that is still to be parsed
	line   []byte // the beginning of a line of which buf had only a part

	// The parser.
	afterCR       bool  // the last line ended with CR: an LF that follows belongs to it
	pastFirstLine bool  // only the first line may begin with a byte order mark
	block         Event // the fields since the last blank line, and the last event ID

	interval time.Duration // of the server's heartbeats, for a Client; 0: not known

	// Returned by the methods of these names.
	lastEventID string
	retry       time.Duration
}

// NewReader returns a Reader of the stream r, such as the body of a response. It may read
// more from r than the event that it returns. The caller closes r.
func NewReader(r io.Reader) *Reader {
	return &Reader{source: r}
}

// Read returns the next event. It does not wait for bytes after the event's blank line.
//
// The ID of the event is the last event ID of the stream, whichever block set it. Its
// Type is empty if its block has none; browsers then dispatch a "message". Its Data is
// never nil, has LF between its lines, and belongs to the caller. Its Retry is zero
// unless its own block set it.
//
// At the end of the stream Read returns [io.EOF], and drops an event that no blank line
// has ended (9.2.6). It returns any other error of the underlying reader as it is, and
// an error that wraps [ErrTooLarge] if an event or a line exceeds MaxEvent. After an
// error every Read returns the same one.
func (r *Reader) Read() (Event, error) {
	if r.MaxEvent < 0 {
		return Event{}, fmt.Errorf("sse: Reader.MaxEvent is %d: set it to 0 for %d", r.MaxEvent, defaultMaxEvent)
	}
	for {
		line, err := r.readLine()
		if err != nil {
			return Event{}, err
		}
		if len(line) > 0 {
			r.parseField(line)
			continue
		}
		// The blank line moves the last event ID, also if no event is dispatched (9.2.6).
		e := r.block
		r.setLastEventID(e.ID)
		if e.Data != nil {
			return e, nil
		}
	}
}

// All returns the events until the stream ends. It yields an error of [Reader.Read] last,
// with a zero Event, unless it is [io.EOF]. The events that the caller did not range over
// are left for Read or for another All.
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

// LastEventID returns the last event ID of the stream, as of the last Read. A client sends
// it as Last-Event-ID when it reconnects, unless it is empty (9.2.4). Blocks that
// dispatch no event move it too.
func (r *Reader) LastEventID() string { return r.lastEventID }

// Retry returns the reconnection time that the stream has set, as of the last Read, or
// zero if it has set none.
func (r *Reader) Retry() time.Duration { return r.retry }

// setLastEventID begins a block, in which events have this ID unless it sets another.
func (r *Reader) setLastEventID(id string) {
	r.block = Event{ID: id}
	r.lastEventID = id
}

func (r *Reader) maxEvent() int { return cmp.Or(r.MaxEvent, defaultMaxEvent) }

// parseField applies a line that is not blank to the block.
func (r *Reader) parseField(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = decode(bytes.TrimPrefix(value, []byte(" "))) // one space only
	switch string(name) {
	case "": // a comment
		r.readComment(value)
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
	case "retry": // it applies at once, before the blank line
		if d, ok := parseRetry(value); ok {
			r.block.Retry, r.retry = d, d
		}
	}
}

// readLine returns the next line without its end. The line is valid until the next
// call.
func (r *Reader) readLine() ([]byte, error) {
	if cap(r.line) > maxBuffer {
		r.line = nil // so that an idle reader is small
	}
	r.line = r.line[:0]
	for {
		// A CR ends its line at once. Waiting for an LF would delay the event until
		// the next one arrives.
		if r.afterCR && len(r.unread) > 0 {
			r.unread = bytes.TrimPrefix(r.unread, []byte("\n"))
			r.afterCR = false
		}
		n := lineLen(r.unread)
		if len(r.line)+n-len("data: ") > r.maxEvent() {
			r.tooLarge()
			return nil, r.err
		}
		if n == len(r.unread) {
			r.line = append(r.line, r.unread...)
			if err := r.fill(); err != nil {
				return nil, err
			}
			continue
		}

		line := r.unread[:n]
		r.afterCR = r.unread[n] == '\r'
		r.unread = r.unread[n+1:]
		if len(r.line) > 0 {
			r.line = append(r.line, line...)
			line = r.line
		}
		if !r.pastFirstLine {
			r.pastFirstLine = true
			line = bytes.TrimPrefix(line, []byte("\uFEFF"))
		}
		return line, nil
	}
}

// fill reads from the source into unread, which has been used up.
func (r *Reader) fill() error {
	r.unread = nil
	if r.buf == nil {
		r.buf = make([]byte, minBuffer)
	}
	for range maxEmptyReads {
		if r.err != nil {
			return r.err
		}
		var n int
		n, r.err = r.source.Read(r.buf)
		if n > 0 {
			r.unread = r.buf[:n]
			if n == len(r.buf) && n < maxBuffer {
				r.buf = make([]byte, 2*n) // for the next read
			}
			return nil
		}
	}
	if r.err == nil {
		r.err = io.ErrNoProgress
	}
	return r.err
}

// tooLarge ends reading. It drops what is buffered, so that the error comes at the same
// place of the stream however its bytes arrive.
func (r *Reader) tooLarge() {
	r.err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, r.maxEvent())
	r.unread, r.line, r.block = nil, nil, Event{}
}

// lineLen returns the number of bytes before the first CR or LF of b, or len(b). It
// searches all of b for an LF, even where lines end with CR, so buf is kept small.
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

// decode returns b with U+FFFD for each maximal part that is not UTF-8, as the decoder
// of browsers does (WHATWG Encoding 8.1.1). Go's own functions replace each byte, or
// several parts by one. If b is valid, decode returns b itself.
func decode(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	out := make([]byte, 0, len(b)+len(b)/2)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			// The bytes that could begin a rune are replaced together.
			for n < len(b) && !utf8.FullRune(b[:n+1]) {
				n++
			}
		}
		out = utf8.AppendRune(out, r)
		b = b[n:]
	}
	return out
}

// parseRetry parses milliseconds in ASCII digits. Other values are to be ignored (9.2.6).
// A number that exceeds the range of a Duration becomes the largest one.
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

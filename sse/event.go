package sse

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ErrInvalidEvent is wrapped by the errors of [Event.AppendText].
var ErrInvalidEvent = errors.New("sse: invalid event")

// Event is one event of a stream (WHATWG HTML 9.2.5): what [Event.AppendText]
// writes and what a [Reader] returns.
type Event struct {
	// ID becomes the client's last event ID, which it sends as Last-Event-ID
	// when it reconnects. If empty, none is written and the client keeps the one
	// it has. Valid UTF-8 without CR, LF and NUL.
	//
	// In an event that was read it is the stream's last event ID, whichever
	// block set it.
	ID string

	// Type is the event's name, for addEventListener. If empty, none is written:
	// browsers then dispatch a "message". Valid UTF-8 without CR, LF and NUL.
	Type string

	// Data is the event's text, in valid UTF-8. CR, LF and CRLF each end a line,
	// and arrive as LF. If nil, and Type is empty, no event is dispatched: the
	// client only takes over ID and Retry. Empty but not nil is an event with
	// empty data.
	//
	// AppendText neither keeps nor changes it.
	Data []byte

	// Retry is how long the client shall wait before it reconnects, from now on.
	// It is written in milliseconds, rounded up. If zero, none is written.
	//
	// In an event that was read it is what the event's own block said; see
	// [Reader.Retry].
	Retry time.Duration
}

// AppendText appends the event as it stands on the wire, with the blank line
// that ends it, and returns the extended b. It implements
// [encoding.TextAppender]. The zero Event appends nothing.
//
// An event that a client would read differently is refused with an error that
// wraps [ErrInvalidEvent], and b is returned as it was: a CR, LF or NUL in ID or
// Type, text that is not UTF-8, a negative Retry.
func (e Event) AppendText(b []byte) ([]byte, error) {
	if err := e.check(); err != nil {
		return b, err
	}
	// A block without data dispatches nothing: its Type would be lost silently.
	hasData := e.Data != nil || e.Type != ""
	if !hasData && e.ID == "" && e.Retry == 0 {
		return b, nil
	}

	b = slices.Grow(b, e.maxSize())
	if e.Retry > 0 {
		ms := e.Retry.Milliseconds()
		if e.Retry%time.Millisecond > 0 {
			ms++
		}
		b = append(b, "retry: "...)
		b = strconv.AppendInt(b, ms, 10)
		b = append(b, '\n')
	}
	// The space after the colon is always there, since clients strip one.
	if e.Type != "" {
		b = append(b, "event: "...)
		b = append(b, e.Type...)
		b = append(b, '\n')
	}
	if e.ID != "" { // an empty one would clear the client's
		b = append(b, "id: "...)
		b = append(b, e.ID...)
		b = append(b, '\n')
	}
	if hasData {
		b = appendData(b, e.Data)
	}
	return append(b, '\n'), nil
}

func (e Event) check() error {
	switch {
	case e.Retry < 0:
		return fmt.Errorf("%w: Retry is negative (%v): set it to 0 to write none", ErrInvalidEvent, e.Retry)
	case strings.ContainsAny(e.ID, "\r\n\x00"):
		return fmt.Errorf("%w: ID has a CR, LF or NUL: escape or remove it", ErrInvalidEvent)
	case strings.ContainsAny(e.Type, "\r\n\x00"):
		return fmt.Errorf("%w: Type has a CR, LF or NUL: escape or remove it", ErrInvalidEvent)
	case !utf8.ValidString(e.ID):
		return fmt.Errorf("%w: ID is not UTF-8: encode it, as base64 or in hexadecimal", ErrInvalidEvent)
	case !utf8.ValidString(e.Type):
		return fmt.Errorf("%w: Type is not UTF-8: choose another name", ErrInvalidEvent)
	case !utf8.Valid(e.Data):
		return fmt.Errorf("%w: Data is not UTF-8: encode it, as base64 for example", ErrInvalidEvent)
	}
	return nil
}

// maxSize is at least what the event takes on the wire, and exactly that unless
// it has Retry or a CRLF.
func (e Event) maxSize() int {
	n := len("data: \n\n") + len(e.Data)
	n += len("data: ") * (bytes.Count(e.Data, []byte("\n")) + bytes.Count(e.Data, []byte("\r")))
	if e.ID != "" {
		n += len("id: \n") + len(e.ID)
	}
	if e.Type != "" {
		n += len("event: \n") + len(e.Type)
	}
	if e.Retry > 0 {
		n += len("retry: 9223372036855\n") // the longest
	}
	return n
}

// appendData appends a data line for each line of data. Cutting at LF first and
// at CR within looks at each byte twice, however the lines end.
func appendData(b, data []byte) []byte {
	for lf := true; lf; {
		var line []byte
		line, data, lf = bytes.Cut(data, []byte("\n"))
		if lf {
			line = bytes.TrimSuffix(line, []byte("\r")) // CRLF is one end
		}
		for cr := true; cr; {
			var part []byte
			part, line, cr = bytes.Cut(line, []byte("\r"))
			b = append(b, "data: "...)
			b = append(b, part...)
			b = append(b, '\n')
		}
	}
	return b
}

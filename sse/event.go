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

// ErrInvalidEvent is wrapped by the errors of [Event.AppendText] and [Writer.Send].
var ErrInvalidEvent = errors.New("sse: invalid event")

// Event is one event of a stream, or a block that dispatches none (WHATWG HTML 9.2.6). A
// [Writer] sends it, a [Reader] returns it, and [Event.AppendText] writes it.
type Event struct {
	// ID becomes the client's last event ID, which it sends as Last-Event-ID when it
	// reconnects. It is valid UTF-8 without CR, LF and NUL. If empty, none is written,
	// and the client keeps the one it has.
	//
	// A Reader sets it to the last event ID of the stream, whichever block set that.
	ID string

	// Type is the event's name, for addEventListener. It is valid UTF-8 without CR, LF
	// and NUL. If empty, none is written, and browsers dispatch a "message".
	Type string

	// Data is the event's text in valid UTF-8. CR, LF and CRLF each end a line, and
	// arrive as LF. Empty data is dispatched if it is not nil. If it is nil, and Type
	// is empty, no event is dispatched: the client applies ID and Retry alone.
	//
	// AppendText neither keeps nor changes it. A Reader leaves it to the caller.
	Data []byte

	// Retry is how long the client waits before it reconnects, from now on. It is
	// written in milliseconds, rounded up. If zero, none is written. A negative one is
	// an error.
	//
	// A Reader sets it to what the event's own block said; see [Reader.Retry].
	Retry time.Duration
}

// AppendText appends the event as it is on the wire, with the blank line that ends it, and
// returns the extended b. The zero Event appends nothing. AppendText implements
// [encoding.TextAppender].
//
// If clients would read the event differently, it returns b unchanged and an error that
// wraps [ErrInvalidEvent] and names the field: ID or Type with a CR, LF or NUL, text that
// is not UTF-8, a negative Retry.
func (e Event) AppendText(b []byte) ([]byte, error) {
	if err := e.check(); err != nil {
		return b, err
	}
	// A block without data dispatches nothing, and its Type would be lost.
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
	// Clients strip one space after the colon, so one is always written.
	if e.Type != "" {
		b = append(b, "event: "...)
		b = append(b, e.Type...)
		b = append(b, '\n')
	}
	if e.ID != "" { // an empty id would clear the one of the client
		b = append(b, "id: "...)
		b = append(b, e.ID...)
		b = append(b, '\n')
	}
	if hasData {
		b = appendLines(b, "data: ", e.Data)
	}
	return append(b, '\n'), nil
}

// check returns an error if clients would read the event differently.
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

// maxSize returns an upper bound of the event's size on the wire. It is exact unless the
// event has Retry or a CRLF.
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

// appendLines appends each line of text, after a field's name or the colon of a comment.
// It cuts at LF and then at CR, so that each byte is searched twice at most, however the
// lines end.
func appendLines(b []byte, name string, text []byte) []byte {
	for lf := true; lf; {
		var line []byte
		line, text, lf = bytes.Cut(text, []byte("\n"))
		if lf {
			line = bytes.TrimSuffix(line, []byte("\r")) // CRLF ends one line
		}
		for cr := true; cr; {
			var part []byte
			part, line, cr = bytes.Cut(line, []byte("\r"))
			b = append(b, name...)
			b = append(b, part...)
			b = append(b, '\n')
		}
	}
	return b
}

package delivery

import (
	"encoding/base64"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
)

// Envelope returns a message with this type and data in JSON: what a WebSocket carries
// by default, and the data of an event stream that was asked for envelopes. It has the
// ID, unless that is zero.
func Envelope(m *broadcast.Message, id broadcast.ID, typ string, data []byte, binary bool) ([]byte, error) {
	switch {
	case !utf8.ValidString(m.Topic) || !utf8.ValidString(typ) || !utf8.ValidString(m.Key): // of a Snapshot or of Encode
		return nil, errors.New("the topic, the type or the key is not UTF-8")
	case !binary && !utf8.Valid(data):
		return nil, errors.New("the data is not UTF-8: set Message.Binary")
	}
	b := make([]byte, 0, len(m.Topic)+len(typ)+len(m.Key)+len(data)+len(data)/8+96)
	b = append(b, '{')
	if !id.IsZero() {
		b = append(b, `"id":"`...)
		b, _ = id.AppendText(b)
		b = append(b, `",`...)
	}
	b = append(b, `"topic":`...)
	b = appendString(b, m.Topic)
	if typ != "" {
		b = append(b, `,"type":`...)
		b = appendString(b, typ)
	}
	b = appendMarks(b, m)
	b = append(b, `,"data":`...)
	if binary {
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, data)
		return append(b, `","encoding":"base64"}`...), nil
	}
	return append(appendString(b, data), '}'), nil
}

// appendMarks appends what the envelope has only where it is set.
func appendMarks(b []byte, m *broadcast.Message) []byte {
	if m.Key != "" {
		b = appendString(append(b, `,"key":`...), m.Key)
	}
	if m.Removed {
		b = append(b, `,"removed":true`...)
	}
	if m.First {
		b = append(b, `,"first":true`...)
	}
	if m.End {
		b = append(b, `,"end":true`...)
	}
	return b
}

// NoticeEnvelope returns a notice in JSON. It has no topic, so that no message can be
// taken for one.
func NoticeEnvelope(n fanfare.Notice) []byte {
	if n.Kind == fanfare.Topics {
		return topicsEnvelope(n)
	}
	b := append([]byte(nil), `{"`...)
	b = append(b, n.Kind...)
	b = append(b, `":"`...)
	b, _ = n.ID.AppendText(b)
	b = append(b, '"')
	if len(n.Topics) > 0 {
		b = append(b, `,"topics":`...)
		b = appendStrings(b, n.Topics)
	}
	if len(n.Partial) > 0 {
		b = append(b, `,"partial":`...)
		b = appendStrings(b, n.Partial)
	}
	if n.Heartbeat > 0 {
		b = append(b, `,"heartbeat":`...)
		b = AppendSeconds(b, n.Heartbeat)
	}
	if n.Expires > 0 {
		b = append(b, `,"expires":`...)
		b = AppendSeconds(b, n.Expires.Round(time.Millisecond))
	}
	if n.Status != 0 {
		b = append(b, `,"status":`...)
		b = strconv.AppendInt(b, int64(n.Status), 10)
	}
	return append(b, '}')
}

// AppendSeconds appends a duration in seconds, with a fraction only where it has one.
func AppendSeconds(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, d.Seconds(), 'f', -1, 64)
}

// topicsEnvelope returns the answer to a client that has asked for other topics. A refusal
// has a status in place of the topics, which may be much longer than the request.
func topicsEnvelope(n fanfare.Notice) []byte {
	b := append([]byte(nil), '{')
	if n.Status == 0 {
		b = append(b, `"topics":`...)
		b = append(appendStrings(b, n.Topics), ',')
	}
	b = append(b, `"position":"`...)
	b, _ = n.ID.AppendText(b)
	b = append(b, '"')
	if n.Status != 0 {
		b = append(b, `,"status":`...)
		b = strconv.AppendInt(b, int64(n.Status), 10)
	}
	return append(b, '}')
}

func appendStrings(b []byte, texts []string) []byte {
	b = append(b, '[')
	for i, text := range texts {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, text)
	}
	return append(b, ']')
}

// appendString appends text in UTF-8 as a string in JSON (RFC 8259 section 7).
// What is not UTF-8 becomes U+FFFD.
func appendString[T string | []byte](b []byte, text T) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0 // what comes before it has been appended
	for i := 0; i < len(text); {
		c := text[i]
		if c >= utf8.RuneSelf {
			r, size := decodeRune(text[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, text[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += size
			continue
		}
		i++
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, text[from:i-1]...)
		from = i
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
	}
	return append(append(b, text[from:]...), '"')
}

func decodeRune[T string | []byte](text T) (rune, int) {
	// The conversion is of no more than one rune, and stays on the stack.
	return utf8.DecodeRuneInString(string(text[:min(len(text), utf8.UTFMax)]))
}

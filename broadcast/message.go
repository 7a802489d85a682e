package broadcast

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/internal/reserved"
)

// Message is what is published. Once published it is shared by all its receivers: neither
// it nor its Data may be modified.
type Message struct {
	// ID is set by the Broadcaster; what a publisher sets there is ignored.
	ID ID

	// Topic is where the message is published. It is UTF-8 without CR, LF and NUL, 1 to
	// 255 bytes. Topics are exact names; publishing to one creates it.
	Topic string

	// Type is what kind of message it is; it becomes the SSE event type. It may be empty,
	// which is a browser's "message" event. It is UTF-8 without CR, LF and NUL, at most
	// 255 bytes. "gap", "begin", "ended", "open", "error" and "statechange" are refused: a
	// client could not tell them from the events that a stream, the browser or fanfare.js
	// creates itself.
	Type string

	// Key is what this message is the newest value of, within Topic: a newer message of the
	// Key replaces it, which is not a loss. If empty, the message is an event, which nothing
	// but First replaces. It is UTF-8 without CR, LF and NUL, at most 255 bytes.
	Key string

	// From names the publisher, for a Grant's Filter ("all but me"). It is not sent to
	// clients; journals keep it.
	From string

	// Data is the payload: UTF-8, unless Binary.
	Data []byte

	// Binary marks Data as arbitrary bytes. A WebSocket handler's envelope and
	// SSE carry them as base64.
	Binary bool

	// Removed says that Key has no value any more. Type and Data say so in the application's
	// words. It needs a Key.
	Removed bool

	// First says that the topic's events start over: this event stands for all before it, which
	// are forgotten. The topic's Keys stay. It must not have a Key.
	// It also vouches for the topic: what the topic had before the Hub forgot it, or before
	// what the Hub has read of its Journal, is not reported as lacking any more, Keys included.
	First bool

	// End says that this is the last message of Topic. Publish refuses what follows
	// ([ErrEnded]), until an event with First. It must not have a Key.
	End bool
}

const maxName = 255

// validate says why the message cannot be published. A negative most is no limit.
func (m *Message) validate(most int64) error {
	if err := validTopic(m.Topic); err != nil {
		return err
	}
	switch {
	case len(m.Type) > maxName:
		return fmt.Errorf("Message.Type has %d bytes, at most %d are allowed", len(m.Type), maxName)
	case !validName(m.Type):
		return fmt.Errorf("Message.Type %q must be UTF-8 without CR, LF and NUL", m.Type)
	case reserved.Type(m.Type):
		return fmt.Errorf("Message.Type %q is reserved for events that a stream, the browser or fanfare.js creates itself", m.Type)
	case len(m.Key) > maxName:
		return fmt.Errorf("Message.Key has %d bytes, at most %d are allowed", len(m.Key), maxName)
	case m.Key != "" && !validName(m.Key):
		return fmt.Errorf("Message.Key %q must be UTF-8 without CR, LF and NUL", m.Key)
	case m.Key == "" && m.Removed:
		return errors.New("Message.Removed needs a Message.Key")
	case m.Key != "" && m.First:
		return errors.New("Message.First is for events: it must not be set together with Message.Key")
	case m.Key != "" && m.End:
		return errors.New("Message.End is for events: it must not be set together with Message.Key")
	case !m.Binary && !utf8.Valid(m.Data):
		return errors.New("Message.Data is not UTF-8: set Message.Binary")
	case most >= 0 && m.wireSize(most) > most:
		return fmt.Errorf("the message takes %d bytes on the wire, Hub.MaxMessage is %d", m.wireSize(most), most)
	}
	return nil
}

func validTopic(topic string) error {
	switch {
	case topic == "":
		return errors.New("the topic is empty")
	case len(topic) > maxName:
		return fmt.Errorf("the topic has %d bytes, at most %d are allowed", len(topic), maxName)
	case !validName(topic):
		return fmt.Errorf("the topic %q must be UTF-8 without CR, LF and NUL", topic)
	}
	return nil
}

func validName(s string) bool {
	return !strings.ContainsAny(s, "\r\n\x00") && utf8.ValidString(s)
}

// emptyEnvelope is the JSON of a message without its texts: with the longest ID, a type and
// an encoding.
const emptyEnvelope = len(`{"id":"ffffffffffffffff-ffffffffffffffff","topic":"","type":"","data":"","encoding":"base64"}`)

// wireSize is the largest size in which clients get the message: that of its envelope in
// JSON. A message that is far below limit is not read for it; the result is then an upper
// bound, which is not above limit.
func (m *Message) wireSize(limit int64) int64 {
	empty := emptyEnvelope + m.marksSize()
	size := int64(empty + base64.StdEncoding.EncodedLen(len(m.Data)))
	if !m.Binary {
		size = int64(empty + longestEscape*len(m.Data))
	}
	if most := size + int64(longestEscape*(len(m.Topic)+len(m.Type)+len(m.Key))); most <= limit {
		return most
	}
	if !m.Binary {
		size = int64(empty + escapedLen(m.Data))
	}
	return size + int64(escapedLen(m.Topic)+escapedLen(m.Type)+escapedLen(m.Key))
}

// marksSize is what the envelope has only where it is set, but for the text of the Key.
func (m *Message) marksSize() (size int) {
	if m.Key != "" {
		size += len(`"key":"",`)
	}
	if m.Removed {
		size += len(`"removed":true,`)
	}
	if m.First {
		size += len(`"first":true,`)
	}
	if m.End {
		size += len(`"end":true,`)
	}
	return size
}

const longestEscape = len(`\u0000`)

// escapedLen is how many bytes a text in UTF-8 has within a string in JSON.
func escapedLen[T string | []byte](text T) int {
	n := len(text)
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"', c == '\\', c == '\n', c == '\r', c == '\t':
			n++
		case c < ' ':
			n += longestEscape - 1
		}
	}
	return n
}

// size is what a message counts against [Hub.KeepBytes].
func (m *Message) size() int64 {
	return int64(len(m.Topic) + len(m.Type) + len(m.Key) + len(m.From) + len(m.Data))
}

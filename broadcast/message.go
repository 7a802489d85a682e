package broadcast

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
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
	// 255 bytes. "gap", "open" and "error" are refused: a client could not tell them from
	// the events that a stream, or the browser, creates itself.
	Type string

	// From names the publisher, for a Grant's Filter ("all but me"). It is not sent to
	// clients; journals keep it.
	From string

	// Data is the payload: UTF-8, unless Binary.
	Data []byte

	// Binary marks Data as arbitrary bytes. A WebSocket handler's envelope and
	// SSE carry them as base64.
	Binary bool
}

const maxName = 255

// validate says why the message cannot be published.
func (m *Message) validate() error {
	if err := validTopic(m.Topic); err != nil {
		return err
	}
	switch {
	case len(m.Type) > maxName:
		return fmt.Errorf("Message.Type has %d bytes, at most %d are allowed", len(m.Type), maxName)
	case !validName(m.Type):
		return fmt.Errorf("Message.Type %q must be UTF-8 without CR, LF and NUL", m.Type)
	case m.Type == "gap" || m.Type == "open" || m.Type == "error":
		return fmt.Errorf("Message.Type %q is reserved for events that a stream or the browser creates itself", m.Type)
	case !m.Binary && !utf8.Valid(m.Data):
		return errors.New("Message.Data is not UTF-8: set Message.Binary")
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

// size is what a message counts against [Hub.KeepBytes].
func (m *Message) size() int64 {
	return int64(len(m.Topic) + len(m.Type) + len(m.From) + len(m.Data))
}

package delivery

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Envelope is a message in JSON: what a WebSocket carries by default, and the
// data of an SSE stream that was asked for envelopes.
type Envelope struct {
	ID       string `json:"id,omitempty"`
	Topic    string `json:"topic"`
	Type     string `json:"type,omitempty"`
	Data     string `json:"data"`
	Encoding string `json:"encoding,omitempty"`
}

// NewEnvelope returns the envelope of a message with this type and data; without
// the ID if bare.
func NewEnvelope(m *broadcast.Message, typ string, data []byte, binary, bare bool) ([]byte, error) {
	e := Envelope{Topic: m.Topic, Type: typ}
	if !bare {
		e.ID = m.ID.String()
	}
	switch {
	case binary:
		e.Data, e.Encoding = base64.StdEncoding.EncodeToString(data), "base64"
	case utf8.Valid(data):
		e.Data = string(data)
	default:
		return nil, errors.New("the data is not UTF-8: set Message.Binary")
	}
	return appendJSON(e)
}

// ControlEnvelope is the JSON of a Control. It has no topic, so that no message
// can be taken for one.
func ControlEnvelope(c Control) ([]byte, error) {
	return appendJSON(struct {
		Ready    string   `json:"ready,omitempty"`
		Gap      string   `json:"gap,omitempty"`
		Position string   `json:"position,omitempty"`
		Topics   []string `json:"topics,omitempty"`
	}{
		Ready:    c.text(Ready),
		Gap:      c.text(Gap),
		Position: c.text(Position),
		Topics:   c.Topics,
	})
}

func (c Control) text(kind string) string {
	if c.Kind != kind {
		return ""
	}
	return c.ID.String()
}

// appendJSON leaves <, > and & as they are: this goes into no HTML page.
func appendJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

package jsontext_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/jsontext"
)

const cut = "a\xe2\x82" // within a rune

type (
	own     struct{ text string }
	ownCopy struct{ Text string }
	bytes   []byte
	text    []byte
	pointer struct{ text string }
	ring    struct {
		Next *ring
		text string
	}
	node struct {
		Text     string
		Children []*node
	}
	Embedded struct{ Text string }
)

func (o own) MarshalJSON() ([]byte, error)      { return json.Marshal(o.text) }
func (o *ownCopy) MarshalJSON() ([]byte, error) { return json.Marshal(map[string]string{"t": o.Text}) }
func (b bytes) MarshalJSON() ([]byte, error)    { return json.Marshal(string(b)) }
func (t text) MarshalText() ([]byte, error)     { return t, nil }
func (p *pointer) MarshalText() ([]byte, error) { return []byte(p.text), nil }
func (r *ring) MarshalJSON() ([]byte, error)    { return json.Marshal(r.text) }

// Text that is not UTF-8 is refused, wherever it is.
func TestTextThatIsNotUTF8IsRefused(t *testing.T) {
	loop := &ring{text: cut}
	loop.Next = loop
	for name, v := range map[string]any{
		"a string":          cut,
		"a pointer":         new(cut),
		"a slice":           []string{"", cut},
		"an array":          [2]string{"", cut},
		"any":               []any{1, nil, cut},
		"a map's key":       map[string]int{cut: 1},
		"a map's value":     map[int]string{1: cut},
		"a field":           struct{ Text string }{cut},
		"an embedded field": struct{ Embedded }{Embedded{cut}},
		"an omitempty field": struct {
			Text string `json:"t,omitempty"`
		}{cut},
		"deep within":             node{Children: []*node{nil, {Children: []*node{{Text: cut}}}}},
		"a Marshaler":             own{cut},
		"a pointer's Marshaler":   []any{&ownCopy{cut}},
		"an addressable element":  []ownCopy{{cut}},
		"a Marshaler's bytes":     bytes(cut),
		"a Marshaler in a circle": loop,
		"raw JSON":                json.RawMessage(`"` + cut + `"`),
		"a TextMarshaler":         text(cut),
		"a TextMarshaler's key":   map[key]int{{cut}: 1},
		"an addressable text":     []pointer{{cut}},
	} {
		b, err := jsontext.Marshal(v)
		require.ErrorIs(t, err, jsontext.ErrNotUTF8, "%s: %s", name, b)
	}
}

type key struct{ text string }

func (k key) MarshalText() ([]byte, error) { return []byte(k.text), nil }

// All other values become what json.Marshal makes of them, with U+FFFD and with JSON that
// mentions it.
func TestOtherValuesAreMarshaledAsTheyAre(t *testing.T) {
	loop := &ring{text: `\ufffd`}
	loop.Next = loop
	for _, v := range []any{
		nil, 1, "", "ä€😀", "\ufffd", `\ufffd`, "<&>\u2028", []byte(cut), []string(nil), (*node)(nil),
		json.RawMessage(`"\ufffd"`), json.RawMessage(`{"\ufffd":["\ufffd"]}`), []any{json.RawMessage(`"\ufffd"`), nil, "ok"},
		struct {
			Raw    json.RawMessage
			hidden string
			Skip   string `json:"-"`
			Bytes  []byte
			At     time.Time
		}{json.RawMessage(`"\ufffd"`), cut, cut, []byte(cut), time.Unix(1, 0)},
		loop, text("\ufffd"), own{"\ufffd"}, map[string]any{"a": json.RawMessage(`"\ufffd"`), "b": map[int]*int{1: nil}},
	} {
		want, err := json.Marshal(v)
		require.NoError(t, err)
		got, err := jsontext.Marshal(v)
		require.NoError(t, err, "%s", want)
		require.Equal(t, string(want), string(got))
	}
	_, err := jsontext.Marshal(func() {})
	require.ErrorAs(t, err, new(*json.UnsupportedTypeError))
}

package ssetest

import (
	"fmt"

	"github.com/fanfare-go/fanfare/internal/keymap"
	"github.com/fanfare-go/fanfare/sse"
)

// Values are the newest values of the Keys of a stream, by topic and Key, as a page keeps them
// that shows state: what is in the map is text, or bytes if the message was Binary.
type Values map[string]map[string]string

// Apply applies an event of a stream that was requested with envelope=1, of which the Keys
// are a part: a value is set or removed, and a beginning forgets the values of its topics.
// Events without a Key and other notices change nothing. Data that is no envelope is an error.
func (v Values) Apply(e sse.Event) error {
	if err := keymap.Apply(v, e.Data); err != nil {
		return fmt.Errorf("ssetest: %w: request the stream with envelope=1", err)
	}
	return nil
}

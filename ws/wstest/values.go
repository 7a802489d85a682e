package wstest

import (
	"fmt"

	"github.com/fanfare-go/fanfare/internal/keymap"
)

// Values are the newest values of the Keys of a ws.Handler's stream, by topic and Key, as a
// page keeps them that shows state: what is in the map is text, or bytes if the message was
// Binary.
type Values map[string]map[string]string

// Apply applies what a Read has returned: a value is set or removed, and a beginning forgets
// the values of its topics. Events without a Key and other notices change nothing. What is no
// envelope of a ws.Handler is an error.
func (v Values) Apply(envelope []byte) error {
	if err := keymap.Apply(v, envelope); err != nil {
		return fmt.Errorf("wstest: %w: a ws.Handler with an Encode, such as ws.Raw, sends none", err)
	}
	return nil
}

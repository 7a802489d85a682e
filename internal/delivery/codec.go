package delivery

import (
	"log/slog"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/guard"
)

// Codec is a handler's way of putting messages on the wire. One Codec serves all
// of the handler's streams, so that it encodes each message once.
type Codec struct {
	// Message returns the wire form of a message, nil if nobody gets it. If
	// bare, the form must not move the client's position. A panic or an error
	// drops the message.
	Message func(m *broadcast.Message, bare bool) ([]byte, error)

	// Notice returns the wire form of a notice, nil if it is not sent.
	Notice func(n fanfare.Notice) []byte

	Name   string       // of the package, for the log
	Logger *slog.Logger // not nil

	forms, bare Forms
	batches     batches
}

// form returns the wire form of a published message.
func (c *Codec) form(m *broadcast.Message, bare bool) *form {
	if bare {
		return c.bare.get(m, c.encodeBare)
	}
	return c.forms.get(m, c.encode)
}

// notice returns the wire form of a notice, nil if it is not sent.
func (c *Codec) notice(n fanfare.Notice) (frame []byte) {
	err := guard.Call("Handler.Notice", func() error {
		frame = c.Notice(n)
		return nil
	})
	if err != nil {
		c.Logger.Error(c.Name+": a notice that cannot be encoded", "kind", n.Kind, "error", err)
	}
	return frame
}

func (c *Codec) encode(m *broadcast.Message) []byte     { return c.try(m, false) }
func (c *Codec) encodeBare(m *broadcast.Message) []byte { return c.try(m, true) }

func (c *Codec) try(m *broadcast.Message, bare bool) (frame []byte) {
	err := guard.Call("Handler.Encode", func() (err error) {
		frame, err = c.Message(m, bare)
		return err
	})
	if err != nil {
		c.Logger.Error(c.Name+": dropped a message that cannot be encoded",
			"id", m.ID, "topic", m.Topic, "type", m.Type, "error", err)
		return nil
	}
	return frame
}

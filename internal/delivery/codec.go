package delivery

import (
	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/guard"
)

// Codec is one wire form of a handler. It serves all streams that have this form, so
// that each message is encoded once. Its functions are set before its first use.
type Codec struct {
	// Message returns a message as it goes over the wire, nil if no client gets it. The
	// client's position moves to id, or stays where it is if id is zero. A panic or an
	// error drops the message.
	Message func(m *broadcast.Message, id broadcast.ID) ([]byte, error)

	// Notice returns a notice as it goes over the wire, nil if it is not sent.
	Notice func(n fanfare.Notice) ([]byte, error)

	withID    forms
	withoutID forms
}

// form returns a published message as it goes over the wire, which moves the client's
// position to id.
func (e *Engine) form(c *Codec, m *broadcast.Message, id broadcast.ID) *form {
	kept := &c.withID
	if id.IsZero() {
		kept = &c.withoutID
	}
	return kept.get(m, func() []byte { return e.encode(c, m, id) })
}

// encode makes the bytes of a message. What cannot be encoded is logged, and dropped.
func (e *Engine) encode(c *Codec, m *broadcast.Message, id broadcast.ID) (frame []byte) {
	err := guard.Call("Handler.Encode", func() (err error) {
		frame, err = c.Message(m, id)
		return err
	})
	if err != nil {
		e.log().Error(e.Name+": dropped a message that cannot be encoded",
			"id", m.ID, "topic", m.Topic, "type", m.Type, "error", err)
		return nil
	}
	return frame
}

// encodeNotice makes the bytes of a notice, nil if it is not sent.
func (e *Engine) encodeNotice(c *Codec, n fanfare.Notice) (frame []byte) {
	err := guard.Call("Handler.Notice", func() (err error) {
		frame, err = c.Notice(n)
		return err
	})
	if err != nil {
		e.log().Error(e.Name+": dropped a notice that cannot be encoded", "kind", n.Kind, "error", err)
		return nil
	}
	return frame
}

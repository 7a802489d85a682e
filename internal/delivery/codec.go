package delivery

import (
	"log/slog"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/guard"
)

// Codec is one wire form of a handler. It serves all streams that have this form, so
// that each message is encoded once; the engine keeps what it makes. Its functions are
// set before its first use.
type Codec struct {
	// Message returns a message as it goes over the wire, nil if no client gets it. The
	// client's position moves to id, or stays where it is if id is zero. A panic or an
	// error drops the message.
	Message func(m *broadcast.Message, id broadcast.ID) ([]byte, error)

	// Notice returns a notice as it goes over the wire, nil if it is not sent.
	Notice func(n fanfare.Notice) ([]byte, error)

	streams int // how many may use it. Guarded by forms.mu of the engine
}

// form returns a published message as it goes over the wire, which moves the client's
// position to id, or leaves it if id is zero.
func (s *Stream) form(m *broadcast.Message, id broadcast.ID) *form {
	var failed error // nothing is logged while other streams wait for the form
	p := s.engine.forms.get(s.codec, m, !id.IsZero(), func() (frame []byte) {
		frame, failed = s.codec.encode(m, id)
		return frame
	})
	s.dropped(m, failed)
	return p
}

// encodeUnkept is form for a message of the stream's own, which no other stream sends.
func (s *Stream) encodeUnkept(m *broadcast.Message) []byte {
	frame, err := s.codec.encode(m, broadcast.ID{})
	s.dropped(m, err)
	return frame
}

func (c *Codec) encode(m *broadcast.Message, id broadcast.ID) (frame []byte, err error) {
	err = guard.Call("Handler.Encode", func() (err error) {
		frame, err = c.Message(m, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return frame, nil
}

// dropped logs that a message was dropped because it cannot be encoded, if err says so.
func (s *Stream) dropped(m *broadcast.Message, err error) {
	if err != nil {
		s.report(slog.LevelError, "dropped a message that cannot be encoded", "id", m.ID, "topic", m.Topic, "type", m.Type, "error", err)
	}
}

// encodeNotice makes the bytes of a notice, nil if it is not sent.
func (s *Stream) encodeNotice(n fanfare.Notice) (frame []byte) {
	err := guard.Call("Handler.Notice", func() (err error) {
		frame, err = s.codec.Notice(n)
		return err
	})
	if err != nil {
		s.report(slog.LevelError, "dropped a notice that cannot be encoded", "kind", n.Kind, "error", err)
		return nil
	}
	return frame
}

// report is Engine.Report for the stream's writer: the Logger is the user's, and may
// block.
func (s *Stream) report(level slog.Level, message string, args ...any) {
	s.worker.Wait()
	s.engine.Report(level, message, args...)
}

package ws

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/reserved"
)

// message returns the function of a codec that puts messages into frames.
func (h *Handler) message(frame func(b []byte, opcode byte, payload []byte, masked bool) []byte) func(*broadcast.Message, broadcast.ID) ([]byte, error) {
	return func(m *broadcast.Message, id broadcast.ID) ([]byte, error) {
		if h.Encode == nil {
			if reserved.Type(m.Type) { // which a Snapshot's messages may have
				return nil, fmt.Errorf("ws: the Type %q is reserved for events that a stream, the browser or fanfare.js creates itself", m.Type)
			}
			data, err := delivery.Envelope(m, id, m.Type, m.Data, m.Binary)
			if err != nil {
				return nil, err
			}
			return frame(nil, opText, data, false), nil
		}
		typ, data, ok := h.Encode(m)
		if !ok {
			return nil, nil
		}
		opcode, err := opcodeOf(typ, data)
		if err != nil {
			return nil, err
		}
		return frame(nil, opcode, data, false), nil
	}
}

// notice puts a notice into a frame. It is never deflated: it is short.
func (h *Handler) notice(n fanfare.Notice) ([]byte, error) {
	switch {
	case h.Notice != nil:
		typ, data, ok := h.Notice(n)
		if !ok {
			return nil, nil
		}
		opcode, err := opcodeOf(typ, data)
		if err != nil {
			return nil, err
		}
		return appendFrame(nil, opcode, data, false), nil
	case h.Encode == nil && !n.ID.IsZero():
		return appendFrame(nil, opText, delivery.NoticeEnvelope(n), false), nil
	}
	return nil, nil
}

// opcodeOf returns the opcode of what Encode or Notice has returned.
func opcodeOf(typ MessageType, data []byte) (byte, error) {
	switch typ {
	case 0, Text:
		if !utf8.Valid(data) {
			return 0, errors.New("a message of type Text is not UTF-8: make it Binary")
		}
		return opText, nil
	case Binary:
		return opBinary, nil
	}
	return 0, fmt.Errorf("the MessageType %d is neither Text nor Binary", typ)
}

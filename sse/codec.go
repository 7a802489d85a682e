package sse

import (
	"encoding/base64"
	"fmt"
	"net/url"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/reserved"
)

// codecs are the wire forms that a client may ask for: events or envelopes, in the
// chunks of a detached stream's response or not.
type codecs struct {
	plain, plainChunks, envelope, envelopeChunks delivery.Codec
}

func (c *codecs) setUp(h *Handler) {
	c.plain.Message, c.plain.Notice = h.message, h.notice
	c.envelope.Message, c.envelope.Notice = h.envelope, envelopeNotice
	inChunks(&c.plainChunks, &c.plain)
	inChunks(&c.envelopeChunks, &c.envelope)
}

// inChunks lets a codec put each form of another one into a chunk.
func inChunks(c, of *delivery.Codec) {
	c.Message = func(m *broadcast.Message, id broadcast.ID) ([]byte, error) {
		b, err := of.Message(m, id)
		return chunk(b), err
	}
	c.Notice = func(n fanfare.Notice) ([]byte, error) {
		b, err := of.Notice(n)
		return chunk(b), err
	}
}

// of returns the codec that the client has asked for.
func (c *codecs) of(query url.Values, chunks bool) *delivery.Codec {
	switch envelopes := delivery.IsOn(query, "envelope"); {
	case envelopes && chunks:
		return &c.envelopeChunks
	case envelopes:
		return &c.envelope
	case chunks:
		return &c.plainChunks
	}
	return &c.plain
}

// event makes the event of a message.
func (h *Handler) event(m *broadcast.Message) (e Event, binary, ok bool, err error) {
	if h.Encode == nil {
		e, binary, ok = Event{Type: m.Type, Data: m.Data}, m.Binary, true
	} else {
		e, ok = h.Encode(m)
	}
	if ok && reserved.Type(e.Type) { // which a Snapshot's messages may have as well
		err = fmt.Errorf("sse: the Type %q is reserved for events that a stream, the browser or fanfare.js creates itself", e.Type)
	}
	return e, binary, ok, err
}

// message makes the block of a message.
func (h *Handler) message(m *broadcast.Message, id broadcast.ID) ([]byte, error) {
	e, binary, ok, err := h.event(m)
	if err != nil || !ok {
		return nil, err
	}
	if binary {
		e.Data = base64.StdEncoding.AppendEncode(nil, e.Data)
		if e.Type == "" {
			e.Type = "message"
		}
		e.Type += ";base64"
	}
	return block(e.Type, id, e.Data)
}

// envelope makes the block of a message in its envelope.
func (h *Handler) envelope(m *broadcast.Message, id broadcast.ID) ([]byte, error) {
	e, binary, ok, err := h.event(m)
	if err != nil || !ok {
		return nil, err
	}
	data, err := delivery.Envelope(m, id, e.Type, e.Data, binary)
	if err != nil {
		return nil, err
	}
	return block("", id, data)
}

// block is an event that fires in a browser, also without data.
func block(typ string, id broadcast.ID, data []byte) ([]byte, error) {
	if data == nil {
		data = []byte{}
	}
	return Event{Type: typ, ID: id.String(), Data: data}.AppendText(nil)
}

// notice makes the block of a notice. A gap and a beginning have data: without, nothing would
// fire in a browser, and its last event ID would move in silence. The end is the end of the
// response. The other notices have an id alone, which moves the last event ID and fires nothing.
func (h *Handler) notice(n fanfare.Notice) ([]byte, error) {
	if h.Notice != nil {
		e, ok := h.Notice(n)
		if !ok {
			return nil, nil
		}
		if e.Type != "gap" && e.Type != "begin" && reserved.Type(e.Type) {
			return nil, fmt.Errorf("sse: the Type %q of a Notice is reserved for events that a stream, the browser or fanfare.js creates itself", e.Type)
		}
		return block(e.Type, n.ID, e.Data)
	}
	switch {
	case n.Kind == fanfare.Gap, n.Kind == fanfare.Begin:
		n.Heartbeat = 0 // a comment has it
		return block(string(n.Kind), n.ID, delivery.NoticeEnvelope(n))
	case n.Kind == fanfare.End:
		return nil, nil
	case n.ID.IsZero():
		return nil, nil // a Broadcaster without positions: an empty id would clear the client's
	}
	return Event{ID: n.ID.String()}.AppendText(nil)
}

// envelopeNotice makes the block of a notice in an envelope.
func envelopeNotice(n fanfare.Notice) ([]byte, error) {
	return block("", n.ID, delivery.NoticeEnvelope(n))
}

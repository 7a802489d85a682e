package ws

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"
)

var (
	errNotUTF8 = errors.New("text that is not UTF-8")
	errTooBig  = errors.New("a message that is too big")

	// errRests is returned in place of a message of which nothing has come.
	errRests = errors.New("nothing has come")
)

// peerClosed is the error of a close frame of the peer, which was answered.
type peerClosed struct{ *CloseError }

// payload reads the bytes of one message from its frames.
type payload struct{ conn *Conn }

// Read implements io.Reader. It returns as many bytes as have arrived, at least one.
func (p payload) Read(b []byte) (int, error) {
	f := &p.conn.socket.in.framing
	for f.rest == 0 {
		if !f.fragmented {
			return 0, io.EOF
		}
		if err := p.conn.nextFrame(); err != nil {
			return 0, err
		}
	}
	return p.conn.socket.readPayload(b)
}

// readMessage reads a message. If rests is true it returns errRests, and does not wait, where
// nothing of a message has come.
func (c *Conn) readMessage(rests bool) (r received) {
	f := &c.socket.in.framing
	f.client, f.deflates = c.socket.client, c.socket.deflates
	for {
		if rests && f.between() && !c.socket.arrived() {
			return received{err: errRests}
		}
		if r.err = c.readFrame(); r.err != nil {
			return r
		}
		if f.data {
			break
		}
	}
	r.typ = MessageType(f.opcode())
	if !f.deflated() {
		r.data, r.err = c.readAll(payload{c}, r.typ)
		return r
	}
	inflater := c.deflater.inflater(payload{c})
	defer c.deflater.put(inflater)
	if r.data, r.err = c.readAll(inflater, r.typ); r.err == nil {
		r.err = c.skipRest(len(r.data))
	}
	return r
}

// nextFrame reads the header of the message's next frame.
func (c *Conn) nextFrame() error {
	for {
		if err := c.readFrame(); err != nil || c.socket.in.framing.data {
			return err
		}
	}
}

// readFrame reads the header of a frame of a message, or handles a control frame.
func (c *Conn) readFrame() error {
	s := c.socket
	if err := s.readHeader(); err != nil || s.in.framing.data {
		return err
	}
	opcode := s.in.framing.opcode()
	control, err := c.readControl()
	switch {
	case err != nil:
		return err
	case opcode == opPing:
		s.answer(control)
	case opcode == opClose:
		return c.peerCloses(control)
	}
	return nil
}

// controlTimeout is how long the payload of a control frame may take to come.
const controlTimeout = 5 * time.Second

var errSlowControl = fmt.Errorf("ws: a control frame took more than %v", controlTimeout)

// readControl reads the payload of a control frame.
func (c *Conn) readControl() ([]byte, error) {
	payload := make([]byte, c.socket.in.framing.rest)
	if c.socket.in.reader.Buffered() < len(payload) {
		timer := time.AfterFunc(controlTimeout, func() { c.cut(errSlowControl) })
		defer timer.Stop()
	}
	for n := 0; n < len(payload); {
		k, err := c.socket.readPayload(payload[n:])
		if err != nil {
			return nil, err
		}
		n += k
	}
	return payload, nil
}

// peerCloses answers the peer's close frame: with its code, or with the frame that was decided
// before, unless that was sent.
func (c *Conn) peerCloses(payload []byte) error {
	why, err := parseClose(append([]byte{finBit | opClose, byte(len(payload))}, payload...))
	if err != nil || len(payload) > 0 && !why.Code.sendable() {
		return errProtocol
	}
	c.awaitAnswers()
	if !utf8.ValidString(why.Reason) { // RFC 6455 section 8.1
		why = errReasonNotUTF8()
	}
	// The timer is for a write that is under way and has no deadline.
	timer := time.AfterFunc(c.timeout, func() { c.cut(peerClosed{why}) })
	defer timer.Stop()
	c.decide(open, why)
	_ = c.socket.close()
	return peerClosed{why}
}

// errReasonNotUTF8 answers a close frame whose reason is not UTF-8.
func errReasonNotUTF8() *CloseError {
	return &CloseError{StatusInvalidFramePayloadData, "the close reason is not UTF-8"}
}

// skipRest reads what comes after the last block of a deflated message, as RFC 7692 section
// 7.2.3.4 allows, to the end of the message. It counts like the message itself.
func (c *Conn) skipRest(size int) error {
	var b [64]byte
	for {
		n, err := payload{c}.Read(b[:])
		size += n
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case c.limit >= 0 && int64(size) > c.limit:
			return errTooBig
		}
	}
}

// readAll reads a message to its end. Text is checked as it arrives, so that a message
// fails at its first wrong byte (RFC 6455 section 8.1) however slowly the rest comes; what is
// deflated, after each block that is inflated.
func (c *Conn) readAll(r io.Reader, typ MessageType) ([]byte, error) {
	b := make([]byte, 0, 512)
	for checked := 0; ; {
		most := cap(b)
		if c.limit >= 0 && c.limit < int64(most) {
			most = int(c.limit) + 1 // one more shows that it is too big
		}
		n, err := r.Read(b[len(b):most])
		b = b[:len(b)+n]
		if c.limit >= 0 && int64(len(b)) > c.limit {
			return nil, errTooBig
		}
		if typ == Text {
			whole := len(b)
			if err != io.EOF {
				whole -= incompleteRune(b)
			}
			if !utf8.Valid(b[checked:whole]) {
				return nil, errNotUTF8
			}
			checked = whole
		}
		switch {
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		case len(b) == cap(b):
			b = slices.Grow(b, len(b))
		}
	}
}

// incompleteRune returns how many bytes at the end of a text are the beginning of a rune
// that is not complete.
func incompleteRune(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if last := text[len(text)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				break
			}
			return n
		}
	}
	return 0
}

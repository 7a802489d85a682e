package ws

import (
	"encoding/binary"
	"errors"
)

var (
	errProtocol = errors.New("what came is not the WebSocket protocol")
	errMasked   = errors.New("ws: a frame from the server is masked")
	errLength   = errors.New("ws: a frame's length is not in its shortest form")
)

// framing parses the headers of frames (RFC 6455 section 5.2), byte by byte, so that each
// fails at its first wrong byte.
type framing struct {
	header [maxHeader]byte // of the current frame
	have   int8            // bytes of the next header that have arrived; 0 within a payload
	data   bool            // the frame is not a control frame
	close  bool            // the frame is a close frame
	masked int8            // where the header has the masking key; 0: nowhere
	rest   uint64          // bytes of its payload that have not arrived
	at     uint8           // of the masking key's bytes, the next one
	err    error           // what is wrong
	closed bool            // a close frame has arrived whole; what follows it is not parsed

	client, deflates bool // of the socket
	fragmented       bool // the last frame of a message has not begun
}

// opcode returns that of the current frame.
func (f *framing) opcode() byte { return f.header[0] & 0xf }

// deflated reports whether the current frame begins a deflated message.
func (f *framing) deflated() bool { return f.header[0]&rsv1Bit != 0 }

// between reports whether a message or nothing has come to its end.
func (f *framing) between() bool {
	return f.have == 0 && f.rest == 0 && !f.fragmented && f.err == nil && !f.closed
}

// add adds a byte of a header, and reports whether the header is complete. It sets err if the
// frame is not allowed.
func (f *framing) add(b byte) (complete bool) {
	f.header[f.have] = b
	f.have++
	if f.err == nil && f.violates() {
		f.err = errProtocol
	}
	err := f.parse()
	if f.err == nil {
		f.err = err
	}
	return f.have == 0
}

// violates reports whether the bytes of a header that have arrived are not allowed.
func (f *framing) violates() bool {
	const rsv2and3 = 0x30
	first, opcode := f.header[0], f.opcode()
	control := opcode&0x8 != 0
	switch f.have {
	case 1:
		switch {
		case opcode > opPong, !control && opcode > opBinary, first&rsv2and3 != 0:
			return true
		case first&rsv1Bit != 0 && (!f.deflates || control || opcode == 0):
			return true
		case control:
			return first&finBit == 0
		}
		return f.fragmented != (opcode == 0)
	case 2:
		masked := f.header[1]&maskBit != 0
		return !masked && !f.client || control && f.header[1]&^maskBit > maxControl
	case 3:
		return f.header[1]&^maskBit == 127 && f.header[2]&0x80 != 0
	}
	return false
}

// parse returns what is wrong with the bytes of a header that have arrived. Once the
// header is complete, it begins the payload. It goes on after an error, for the close frame
// of a peer that is refused: a length that is not in its shortest form, or a mask that should
// not be there, can still be read.
func (f *framing) parse() (err error) {
	if f.have < 2 {
		return nil
	}
	masked := f.header[1]&maskBit != 0
	if f.client && masked {
		err = errMasked // RFC 6455 section 5.1
	}
	size, need, least := uint64(f.header[1]&^maskBit), int8(2), uint64(0)
	switch size {
	case 126:
		size, need, least = uint64(binary.BigEndian.Uint16(f.header[2:])), 4, 126
	case 127:
		size, need, least = binary.BigEndian.Uint64(f.header[2:]), 10, 1<<16
	}
	if f.have == need && size < least {
		err = errLength // RFC 6455 section 5.2
	}
	f.masked = 0
	if masked {
		f.masked = need
		need += 4
	}
	if f.have == need {
		f.have, f.rest, f.at, f.data = 0, size, 0, f.header[0]&0x8 == 0
		f.close = f.header[0] == finBit|opClose && size <= maxControl
		f.closed = f.close && size == 0
		if f.data {
			f.fragmented = f.header[0]&finBit == 0
		}
	}
	return err
}

// unmask removes the mask of the next bytes of the payload.
func (f *framing) unmask(p []byte) {
	if f.masked == 0 {
		return
	}
	var key [4]byte
	for i := range key {
		key[i] = f.header[int(f.masked)+(int(f.at)+i)%4]
	}
	mask(p, key)
	f.at = uint8((int(f.at) + len(p)) % 4)
}

// consume notes that n bytes of the payload have arrived.
func (f *framing) consume(n uint64) {
	f.rest -= n
	f.closed = f.close && f.rest == 0
}

// skip parses what nobody wants, up to the peer's close frame.
func (f *framing) skip(p []byte) {
	for len(p) > 0 && !f.closed {
		if f.rest > 0 {
			n := min(f.rest, uint64(len(p)))
			f.consume(n)
			p = p[n:]
			continue
		}
		f.add(p[0])
		p = p[1:]
	}
}

package ws

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"math/rand/v2"
)

// The opcodes of the frames that we write (RFC 6455 section 5.2), and bits of a header.
const (
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xa

	finBit  = 0x80
	maskBit = 0x80
)

// maxHeader is how many bytes the header of a frame has at most: opcode and length, the
// extended length, and the masking key.
const maxHeader = 2 + 8 + 4

// maxControl is how many bytes the payload of a control frame has at most (RFC 6455 section
// 5.5).
const maxControl = 125

// appendFrame appends a message or a control frame, in one frame. The frames of a
// client are masked (RFC 6455 section 5.3).
func appendFrame(b []byte, opcode byte, payload []byte, masked bool) []byte {
	b = appendHeader(b, opcode, len(payload), masked)
	start := len(b)
	b = append(b, payload...)
	if masked {
		mask(b[start:], [4]byte(b[start-4:start]))
	}
	return b
}

// appendHeader appends the header of a frame, if masked with a random masking key.
func appendHeader(b []byte, opcode byte, size int, masked bool) []byte {
	var m byte
	if masked {
		m = maskBit
	}
	b = append(b, finBit|opcode)
	switch {
	case size <= 125:
		b = append(b, m|byte(size))
	case size <= 0xffff:
		b = append(b, m|126)
		b = binary.BigEndian.AppendUint16(b, uint16(size))
	default:
		b = append(b, m|127)
		b = binary.BigEndian.AppendUint64(b, uint64(size))
	}
	if masked {
		b = binary.LittleEndian.AppendUint32(b, rand.Uint32())
	}
	return b
}

// mask applies a masking key to p, eight bytes at a time. Doing it twice undoes it.
func mask(p []byte, key [4]byte) {
	k := uint64(binary.LittleEndian.Uint32(key[:]))
	k |= k << 32
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^k)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= byte(k)
		k = bits.RotateLeft64(k, -8)
	}
}

var errNotClose = errors.New("ws: not a close frame")

// parseClose returns the code and reason of a close frame. The frame must be whole, and no
// longer than a control frame may be.
func parseClose(frame []byte) (*CloseError, error) {
	if len(frame) < 2 || frame[0] != finBit|opClose {
		return nil, errNotClose
	}
	size, payload := int(frame[1]&^maskBit), frame[2:]
	if frame[1]&maskBit != 0 {
		if len(payload) < 4 {
			return nil, errNotClose
		}
		key := [4]byte(payload)
		payload = append([]byte(nil), payload[4:]...)
		mask(payload, key)
	}
	switch {
	case len(payload) != size:
		return nil, errNotClose
	case size == 0:
		return &CloseError{Code: StatusNoStatusReceived}, nil
	case size == 1:
		return nil, errNotClose
	}
	return &CloseError{StatusCode(binary.BigEndian.Uint16(payload)), string(payload[2:])}, nil
}

// appendClose appends a close frame, with the reason truncated to what fits.
func appendClose(b []byte, why *CloseError, masked bool) []byte {
	if why.Code == StatusNoStatusReceived {
		return appendFrame(b, opClose, nil, masked)
	}
	payload := binary.BigEndian.AppendUint16(make([]byte, 0, maxControl), uint16(why.Code))
	return appendFrame(b, opClose, append(payload, truncate(why.Reason)...), masked)
}

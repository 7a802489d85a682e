package abuse_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"time"
)

// The first bytes of frames (RFC 6455 section 5.2).
const (
	continuation = 0x0
	binaryFrame  = 0x2
	final        = 0x80
	deflated     = 0x40
	closeFrame   = final | 0x8
	pingFrame    = final | 0x9
	pongFrame    = final | 0xa
	textFrame    = final | 0x1
)

// frame returns a frame as a client sends it, masked with a key of zeros, which leaves the
// payload as it is.
func frame(first byte, payload string) string {
	return frameHeader(first, len(payload)) + payload
}

// frameHeader returns the header of a client's frame with size bytes of payload.
func frameHeader(first byte, size int) string {
	const masked = 0x80
	b := []byte{first}
	switch {
	case size < 126:
		b = append(b, masked|byte(size))
	case size < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(size))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), uint64(size))
	}
	return string(append(b, 0, 0, 0, 0))
}

// readFrame reads a frame from a server.
func readFrame(r *bufio.Reader) (first byte, payload string, err error) {
	var h [2]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, "", err
	}
	size := uint64(h[1])
	switch size {
	case 126:
		var n uint16
		err = binary.Read(r, binary.BigEndian, &n)
		size = uint64(n)
	case 127:
		err = binary.Read(r, binary.BigEndian, &size)
	}
	if err != nil {
		return 0, "", err
	}
	b := make([]byte, size)
	_, err = io.ReadFull(r, b)
	return h[0], string(b), err
}

// closeCode reads up to the close frame, and returns its status code.
func (p *peer) closeCode() (int, error) {
	_ = p.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		first, payload, err := readFrame(p.r)
		switch {
		case err != nil:
			return 0, err
		case first == closeFrame && len(payload) >= 2:
			return int(binary.BigEndian.Uint16([]byte(payload))), nil
		}
	}
}

package ws

import (
	"encoding/binary"
	"errors"
)

var (
	errMasked = errors.New("ws: a frame from the server is masked")
	errLength = errors.New("ws: a frame's length is not in its shortest form")
)

// framing parses the headers of frames on their way to the library, in pieces of any
// size. It finds two errors that the library does not, counts the bytes of messages that
// have arrived, and notices the peer's close frame. See socket for why.
type framing struct {
	header [maxHeader]byte
	have   int8   // bytes of header that have arrived
	data   bool   // the frame is not a control frame
	close  bool   // the frame is a close frame
	rest   uint64 // bytes of its payload that have not arrived
	unread uint64 // bytes of messages that have arrived and were not read from the library
	err    error  // what is wrong: nothing after it goes to the library
	closed bool   // a close frame has arrived whole; what follows it is not parsed
}

// parse parses p, and returns how many bytes of it come before an error. It goes on after
// an error, for the close frame of a peer that is refused: a length that is not in its
// shortest form, or a mask that should not be there, can still be read.
func (f *framing) parse(p []byte, client bool) (good int) {
	good = len(p)
	for len(p) > 0 && !f.closed {
		if f.rest > 0 {
			n := min(f.rest, uint64(len(p)))
			f.rest -= n
			p = p[n:]
			if f.data {
				f.unread += n
			}
			f.closed = f.close && f.rest == 0
			continue
		}
		f.header[f.have] = p[0]
		f.have++
		if err := f.parseHeader(client); err != nil && f.err == nil {
			f.err = err
			good -= len(p)
		}
		p = p[1:]
	}
	return good
}

// parseHeader returns what is wrong with the bytes of a header that have arrived. Once the
// header is complete, it begins the payload.
func (f *framing) parseHeader(client bool) (err error) {
	if f.have < 2 {
		return nil
	}
	masked := f.header[1]&maskBit != 0
	if client && masked {
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
	if masked {
		need += 4
	}
	if f.have == need {
		f.have, f.rest, f.data = 0, size, f.header[0]&0x8 == 0
		f.close = f.header[0] == finBit|opClose && size <= maxControl
		f.closed = f.close && size == 0
	}
	return err
}

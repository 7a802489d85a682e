package main

import (
	"encoding/binary"
	"net"
)

// openHTTP2 asks for an event stream over HTTP/2 without TLS (RFC 9113 section 3.3). The server
// may send as much as it likes.
func openHTTP2(c net.Conn) error {
	const (
		window     = 1<<31 - 1
		endStream  = 0x1
		endHeaders = 0x4
		ack        = 0x1
	)
	settings := binary.BigEndian.AppendUint32([]byte{0, 4}, window) // SETTINGS_INITIAL_WINDOW_SIZE
	request := append([]byte{
		0x82, 0x86, 0x84, // :method GET, :scheme http, :path / (RFC 7541 appendix A)
		0x01, 1, 'x', // :authority
		0x0f, 4, 17, // accept
	}, "text/event-stream"...)
	b := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	b = appendFrame(b, 4, 0, 0, settings)
	b = appendFrame(b, 4, ack, 0, nil) // of the server's settings, which it sends first
	b = appendFrame(b, 8, 0, 0, binary.BigEndian.AppendUint32(nil, window-65_535))
	b = appendFrame(b, 1, endStream|endHeaders, 1, request)
	_, err := c.Write(b)
	return err
}

// appendFrame appends a frame of HTTP/2 (RFC 9113 section 4.1).
func appendFrame(b []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	b = append(b, 0, byte(len(payload)>>8), byte(len(payload)), kind, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// frames takes the data out of the frames of a connection over HTTP/2.
type frames struct {
	header []byte // what has come of it
	left   int    // bytes of the payload that are still to come
}

// data appends the data in what has come to b.
func (f *frames) data(b, come []byte) []byte {
	for len(come) > 0 {
		if f.left == 0 {
			n := min(9-len(f.header), len(come))
			f.header, come = append(f.header, come[:n]...), come[n:]
			if len(f.header) < 9 {
				break
			}
			f.left = int(f.header[0])<<16 | int(f.header[1])<<8 | int(f.header[2])
		}
		n := min(f.left, len(come))
		if f.header[3] == 0 { // DATA
			b = append(b, come[:n]...)
		}
		if come, f.left = come[n:], f.left-n; f.left == 0 {
			f.header = f.header[:0]
		}
	}
	return b
}

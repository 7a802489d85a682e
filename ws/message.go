package ws

import (
	"errors"
	"io"
	"slices"
	"unicode/utf8"
)

var (
	errNotUTF8 = errors.New("text that is not UTF-8")
	errTooBig  = errors.New("a message that is too big")
)

// readMessage reads a message to its end. Text is checked as it arrives, so that a
// message fails at its first wrong byte (RFC 6455 section 8.1) however slowly the rest
// comes; if messages may be deflated, after each 4 KiB and each frame.
func (c *Conn) readMessage(r io.Reader, typ MessageType) ([]byte, error) {
	b := make([]byte, 0, 512)
	for checked := 0; ; {
		request := c.socket.available()
		if typ == Binary { // nothing can be wrong with it but its size
			request = cap(b)
			if c.limit >= 0 {
				request = int(min(int64(request), c.limit-int64(len(b)))) + 1
			}
		}
		n, err := r.Read(b[len(b):min(cap(b), len(b)+request)])
		c.socket.consumed(n)
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

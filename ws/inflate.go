package ws

import (
	"bufio"
	"compress/flate"
	"errors"
	"io"
	"strings"
)

// blockEnd is what the sender of a deflated message leaves out (RFC 7692 section 7.2.1).
const blockEnd = "\x00\x00\xff\xff"

// inflater inflates one message. No context is taken over.
type inflater struct {
	input bufio.Reader
	tail  strings.Reader
	flate io.ReadCloser
}

// Read implements io.Reader. A message may end without a final block.
func (i *inflater) Read(p []byte) (int, error) {
	n, err := i.flate.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// inflater returns an inflater of a message, which put takes back.
func (d *deflater) inflater(message io.Reader) *inflater {
	i, _ := d.inflaters.Get().(*inflater)
	if i == nil {
		i = &inflater{flate: flate.NewReader(nil)}
	}
	i.tail.Reset(blockEnd)
	i.input.Reset(io.MultiReader(message, &i.tail))
	_ = i.flate.(flate.Resetter).Reset(&i.input, nil) // it has no error to return
	return i
}

func (d *deflater) put(i *inflater) {
	i.input.Reset(nil) // the message's connection
	d.inflaters.Put(i)
}

package ssetest

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// maxKept is how much of the answer is kept to be decoded: the first events of a probe.
const maxKept = 8 << 10

// probeType is the type of the probe's events, which is found in what was decoded.
const probeType = "probe"

// checkLabel decodes the beginning of a body as a browser would, and returns an error if
// Content-Encoding does not fit the bytes, or they are not those of the probe.
func checkLabel(header http.Header, body []byte) error {
	var codings []string
	for coding := range strings.SplitSeq(strings.Join(header.Values("Content-Encoding"), ","), ",") {
		if coding = strings.ToLower(strings.Trim(coding, " \t")); coding != "" && coding != "identity" {
			codings = append(codings, coding)
		}
	}
	if len(codings) == 0 {
		return checkPlain(body)
	}
	label := strings.Join(codings, ", ")
	if isProbe(body) {
		return fmt.Errorf("Content-Encoding is %q, but the bytes are not encoded: a browser cannot read them; "+
			"the middleware that sets it must encode what is written, or leave the stream alone", label)
	}
	for _, coding := range slices.Backward(codings) { // the last one was applied last
		decoded, known, err := decode(coding, body)
		if err != nil {
			return fmt.Errorf("Content-Encoding is %q, but the bytes are not %s: a browser cannot read them: %w", label, coding, err)
		}
		if !known {
			return nil
		}
		body = decoded
	}
	if !isProbe(body) {
		return fmt.Errorf("Content-Encoding is %q, but what it decodes to is not the stream: a browser cannot read it", label)
	}
	return nil
}

func isProbe(b []byte) bool { return bytes.Contains(b, []byte("event: "+probeType+"\n")) }

// checkPlain returns an error if a body without a label is not the probe's stream.
func checkPlain(body []byte) error {
	switch {
	case isProbe(body):
		return nil
	case bytes.HasPrefix(body, gzipMagic), bytes.HasPrefix(body, zstdMagic):
		return errors.New("the bytes are compressed, but there is no Content-Encoding: a browser cannot read them; " +
			"the middleware that compresses must set it before the header is sent")
	}
	return errors.New("the bytes are not those of the stream: a middleware changes them")
}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// decode decodes the beginning of a body. It reports false for a coding that it cannot
// decode.
func decode(coding string, body []byte) (decoded []byte, known bool, err error) {
	in := bytes.NewReader(body)
	var out io.Reader
	switch coding {
	case "gzip", "x-gzip":
		out, err = gzip.NewReader(in)
	case "deflate":
		if out, err = zlib.NewReader(in); err != nil { // some send it without the header of zlib, and browsers accept that
			out, err = flate.NewReader(bytes.NewReader(body)), nil
		}
	case "zstd":
		if !bytes.HasPrefix(body, zstdMagic) {
			return nil, true, errors.New("they do not begin as it does")
		}
		return nil, false, nil
	case "br":
		return nil, false, nil
	default:
		return nil, true, errors.New("browsers do not know it")
	}
	if err != nil {
		return nil, true, err
	}
	decoded, err = io.ReadAll(io.LimitReader(out, maxKept))
	if errors.Is(err, io.ErrUnexpectedEOF) { // a stream that was cut, or the beginning of one
		err = nil
	}
	return decoded, true, err
}

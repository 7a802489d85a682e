package ws

import (
	"bytes"
	"compress/flate"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"
)

// minDeflate is how many bytes a message has at least for deflating to be worth it.
const minDeflate = 512

const rsv1Bit = 0x40 // of a message that is deflated (RFC 7692 section 6)

// deflater makes deflated frames, each by itself: without context takeover, so that
// one frame serves all connections. The zero deflater is ready.
type deflater struct{ writers sync.Pool }

// flateTail is what each flush ends with, which the receiver adds again (RFC 7692
// section 7.2.1).
const flateTail = 4

// appendFrame appends a message in one frame: deflated, if that makes it smaller.
func (d *deflater) appendFrame(b []byte, opcode byte, payload []byte, masked bool) []byte {
	if len(payload) >= minDeflate {
		var out bytes.Buffer
		out.Grow(len(payload) / 2)
		w, _ := d.writers.Get().(*flate.Writer)
		if w == nil {
			w, _ = flate.NewWriter(&out, flate.BestSpeed) // whose error is of the level alone
		} else {
			w.Reset(&out)
		}
		_, _ = w.Write(payload) // into memory
		_ = w.Flush()
		d.writers.Put(w)
		if n := out.Len() - flateTail; n < len(payload) {
			return appendFrame(b, rsv1Bit|opcode, out.Bytes()[:n], masked)
		}
	}
	return appendFrame(b, opcode, payload, masked)
}

// mode is what the library is told, which negotiates and inflates.
func (o Options) mode() websocket.CompressionMode {
	if o.Compression {
		return websocket.CompressionNoContextTakeover
	}
	return websocket.CompressionDisabled
}

// deflates reports whether a handshake's answer has agreed on it.
func deflates(answer http.Header) bool {
	return strings.HasPrefix(answer.Get("Sec-Websocket-Extensions"), "permessage-deflate")
}

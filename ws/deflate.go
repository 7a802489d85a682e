package ws

import (
	"bytes"
	"compress/flate"
	"errors"
	"net/http"
	"slices"
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

const permessageDeflate = "permessage-deflate"

// withOffer returns the request with the offer of permessage-deflate that is accepted:
// the library looks less closely at its parameters.
func withOffer(r *http.Request) *http.Request {
	const name = "Sec-Websocket-Extensions"
	if len(r.Header.Values(name)) == 0 {
		return r
	}
	shown := *r
	shown.Header = r.Header.Clone()
	shown.Header.Del(name)
	for _, value := range r.Header.Values(name) {
		for offer := range strings.SplitSeq(value, ",") {
			if acceptable(offer) {
				shown.Header.Set(name, permessageDeflate)
			}
		}
	}
	return &shown
}

// acceptable reports whether an offer is one of permessage-deflate that can be met (RFC
// 7692 section 7.1): what is sent is deflated over a window of 15 bits, and what comes
// may be over any.
func acceptable(offer string) bool {
	name, parameters, _ := strings.Cut(offer, ";")
	if strings.TrimSpace(name) != permessageDeflate {
		return false
	}
	seen := make(map[string]bool)
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, valued := strings.Cut(strings.TrimSpace(parameter), "=")
		if unquoted, ok := strings.CutPrefix(value, `"`); ok {
			value = strings.TrimSuffix(unquoted, `"`)
		}
		bits := slices.Index([]string{"8", "9", "10", "11", "12", "13", "14", "15"}, value)
		switch {
		case parameters == "":
		case seen[name]:
			return false
		case (name == "server_no_context_takeover" || name == "client_no_context_takeover") && !valued:
		case name == "client_max_window_bits" && (!valued || bits >= 0):
		default:
			return false
		}
		seen[name] = true
	}
	return true
}

// deflates reports whether a handshake's answer has agreed on it.
func deflates(answer http.Header) bool {
	return strings.HasPrefix(answer.Get("Sec-Websocket-Extensions"), permessageDeflate)
}

var errTakesOver = errors.New("the server answers an offer of permessage-deflate without server_no_context_takeover, which it asked for (RFC 7692 section 7.1.1.1)")

// checkAnswer finds an answer to our offer that the library would not read right.
func checkAnswer(answer http.Header) error {
	if !deflates(answer) {
		return nil
	}
	for parameter := range strings.SplitSeq(answer.Get("Sec-Websocket-Extensions"), ";") {
		if strings.TrimSpace(parameter) == "server_no_context_takeover" {
			return nil
		}
	}
	return errTakesOver
}

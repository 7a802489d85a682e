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

// minDeflate is the size in bytes from which messages are deflated.
const minDeflate = 512

const rsv1Bit = 0x40 // of the first frame of a deflated message (RFC 7692 section 6)

// deflater makes deflated frames without context takeover, so that one frame serves all
// connections. It may be used concurrently. The zero deflater is ready to use.
type deflater struct{ writers sync.Pool }

// flateTail is how many bytes at the end of each flush are not sent: the receiver adds
// them again (RFC 7692 section 7.2.1).
const flateTail = 4

// appendFrame appends a message in one frame, deflated if that makes it smaller.
func (d *deflater) appendFrame(b []byte, opcode byte, payload []byte, masked bool) []byte {
	if len(payload) >= minDeflate {
		var out bytes.Buffer
		out.Grow(len(payload) / 2)
		w, _ := d.writers.Get().(*flate.Writer)
		if w == nil {
			w, _ = flate.NewWriter(&out, flate.BestSpeed) // an error can only come from the level
		} else {
			w.Reset(&out)
		}
		_, _ = w.Write(payload) // writes to a bytes.Buffer do not fail
		_ = w.Flush()
		d.writers.Put(w)
		if n := out.Len() - flateTail; n < len(payload) {
			return appendFrame(b, rsv1Bit|opcode, out.Bytes()[:n], masked)
		}
	}
	return appendFrame(b, opcode, payload, masked)
}

// mode returns the compression mode for the library, which negotiates and inflates.
func (o Options) mode() websocket.CompressionMode {
	if o.Compression {
		return websocket.CompressionNoContextTakeover
	}
	return websocket.CompressionDisabled
}

const permessageDeflate = "permessage-deflate"

// withOffer returns the request with a plain offer of permessage-deflate if one of its
// offers is acceptable, else with none. The library does not check all parameters of an
// offer.
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

// acceptable reports whether an offer is one of permessage-deflate that we can accept
// (RFC 7692 section 7.1). We deflate with a window of 15 bits, and inflate with any.
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

// deflates reports whether the response to a handshake agrees to permessage-deflate.
func deflates(response http.Header) bool {
	return strings.HasPrefix(response.Get("Sec-Websocket-Extensions"), permessageDeflate)
}

var errTakesOver = errors.New("the server accepts permessage-deflate without server_no_context_takeover, which the offer requires (RFC 7692 section 7.1.1.1)")

// checkResponse returns an error if the server accepts our offer in a way that the
// library does not support.
func checkResponse(response http.Header) error {
	if !deflates(response) {
		return nil
	}
	for parameter := range strings.SplitSeq(response.Get("Sec-Websocket-Extensions"), ";") {
		if strings.TrimSpace(parameter) == "server_no_context_takeover" {
			return nil
		}
	}
	return errTakesOver
}

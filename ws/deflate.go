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
// connections, and inflates messages. It may be used concurrently. The zero deflater is ready
// to use.
type deflater struct{ writers, inflaters sync.Pool }

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

// mode returns the compression mode for the library, which negotiates.
func (o Options) mode() websocket.CompressionMode {
	if o.Compression {
		return websocket.CompressionNoContextTakeover
	}
	return websocket.CompressionDisabled
}

const permessageDeflate = "permessage-deflate"

const extensions = "Sec-Websocket-Extensions"

// fullWindow is the parameter with which a client offers that the server may use all of
// the window. A server that accepts the offer repeats it (RFC 7692 section 7.1.2.1).
const fullWindow = "server_max_window_bits=15"

// withOffer returns the request with a plain offer of permessage-deflate if one of its
// offers is acceptable, else with none. The library does not check all parameters of an
// offer. It also reports whether the response has to repeat fullWindow.
func withOffer(r *http.Request) (_ *http.Request, window bool) {
	if len(r.Header.Values(extensions)) == 0 {
		return r, false
	}
	shown := *r
	shown.Header = r.Header.Clone()
	shown.Header.Del(extensions)
	for _, value := range r.Header.Values(extensions) {
		for offer := range strings.SplitSeq(value, ",") {
			if window, ok := acceptable(offer); ok { // the first one is the client's preference
				shown.Header.Set(extensions, permessageDeflate)
				return &shown, window
			}
		}
	}
	return &shown, false
}

// acceptable reports whether an offer is one of permessage-deflate that we can accept
// (RFC 7692 section 7.1), and whether it has fullWindow. We deflate with a window of 15
// bits, and inflate with any.
func acceptable(offer string) (window, ok bool) {
	name, parameters, _ := strings.Cut(offer, ";")
	if strings.TrimSpace(name) != permessageDeflate {
		return false, false
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
			return false, false
		case (name == "server_no_context_takeover" || name == "client_no_context_takeover") && !valued:
		case name == "client_max_window_bits" && (!valued || bits >= 0):
		case name == "server_max_window_bits" && value == "15":
		default:
			return false, false
		}
		seen[name] = true
	}
	return seen["server_max_window_bits"], true
}

// deflates reports whether the response to a handshake agrees to permessage-deflate.
func deflates(response http.Header) bool {
	return strings.HasPrefix(response.Get(extensions), permessageDeflate)
}

var errTakesOver = errors.New("the server accepts permessage-deflate without server_no_context_takeover, which the offer requires (RFC 7692 section 7.1.1.1)")

// checkResponse returns an error if the server accepts our offer in a way that the
// library does not support.
func checkResponse(response http.Header) error {
	if !deflates(response) {
		return nil
	}
	for parameter := range strings.SplitSeq(response.Get(extensions), ";") {
		if strings.TrimSpace(parameter) == "server_no_context_takeover" {
			return nil
		}
	}
	return errTakesOver
}

// Package browser serves fanfare.js, the browser's end of a stream: an EventTarget that
// behaves as an EventSource does, over a WebSocket, Server-Sent Events or long polling,
// whatever gets through, and that loses nothing when it moves from one to another.
//
//	mux.Handle("GET /fanfare.js", browser.Handler())
//
// A page imports it as it is:
//
//	<script type="module">
//	  import { Fanfare } from '/fanfare.js';
//	  const stream = new Fanfare({ ws: '/rooms/lobby/ws', sse: '/rooms/lobby/events' });
//	  stream.addEventListener('chat', ({ data }) => show(JSON.parse(data)));
//	  stream.ongap = () => reload();
//	</script>
//
// fanfare.d.ts, beside the module, says what there is to set, to call and to hear. No page
// needs it: EventSource and WebSocket get the same messages.
package browser

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

//go:embed fanfare.js
var source []byte

// Version returns what names the module's content: it is another one when the module is.
func Version() string {
	sum := sha256.Sum256(source)
	return hex.EncodeToString(sum[:8])
}

// Handler returns a handler that serves fanfare.js, whatever path it is mounted at. A
// browser asks each time whether the module has changed, which is answered without it;
// unless the URL has its [Version] as the query parameter v: then it is kept for a year.
// Pages of any origin may import it.
func Handler() http.Handler {
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	_, _ = w.Write(source) // into memory
	_ = w.Close()
	return &handler{version: Version(), packed: packed.Bytes()}
}

type handler struct {
	version string
	packed  []byte
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/javascript; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Vary", "Accept-Encoding")
	header.Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == h.version {
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	content, tag := source, h.version
	if acceptsGzip(r) {
		content, tag = h.packed, tag+"-gzip"
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// acceptsGzip reports whether a response may be gzipped (RFC 9110 section 12.5.3).
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			weight = strings.ReplaceAll(weight, " ", "")
			return strings.Trim(strings.TrimPrefix(weight, "q="), "0.") != "" || weight == ""
		}
	}
	return false
}

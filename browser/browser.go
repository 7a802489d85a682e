// Package browser serves fanfare.js, the kit's client for browsers. It is used like an
// EventSource, and connects over a WebSocket, Server-Sent Events or long polling, whichever
// works. It loses no message when it switches from one to another.
//
//	mux.Handle("GET /fanfare.js", browser.Handler())
//
// A page imports it without a build step:
//
//	<script type="module">
//	  import { Fanfare } from '/fanfare.js';
//	  const stream = new Fanfare({ ws: '/rooms/lobby/ws', sse: '/rooms/lobby/events' });
//	  stream.addEventListener('chat', ({ data }) => show(JSON.parse(data)));
//	  stream.ongap = () => reload();
//	</script>
//
// The file fanfare.d.ts documents its options, methods and events. A page can also use the
// browser's own EventSource or WebSocket, which get the same messages.
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

// Version returns a hash of the module's content, for URLs that change with it.
func Version() string {
	sum := sha256.Sum256(source)
	return hex.EncodeToString(sum[:8])
}

// Handler returns a handler that serves fanfare.js at any path. A browser revalidates the
// module each time (304 if it has not changed), unless the URL has its [Version] as the query
// parameter v: then it caches the module for a year. Pages of any origin may import it.
func Handler() http.Handler {
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	_, _ = w.Write(source) // a bytes.Buffer does not fail
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

// acceptsGzip reports whether the client accepts gzip (RFC 9110 section 12.5.3).
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

// Package browser serves fanfare.js, the kit's client for browsers. It is used like an
// EventSource, and connects over a WebSocket, Server-Sent Events or long polling, whichever
// works. It loses no message when it switches from one to another. On a stream with state it
// fires begin where what the page has is void, and ended when all topics have ended.
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
// A page whose tabs share one connection needs a second file at the same place:
//
//	mux.Handle("GET /fanfare-shared.js", browser.Handler())
//
// The file fanfare.d.ts documents its options, methods and events. A page can also use the
// browser's own EventSource or WebSocket, which get the same messages.
package browser

//go:generate go run ../internal/browsers/build

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed fanfare.js
var source []byte

//go:embed fanfare-shared.js
var sharedSource []byte

const sharedName = "fanfare-shared.js"

// Version returns a hash of the modules' content, for URLs that change with it.
func Version() string {
	sum := sha256.Sum256(append(bytes.Clone(source), sharedSource...))
	return hex.EncodeToString(sum[:8])
}

// Handler returns a handler that serves fanfare-shared.js at a path that ends with its name,
// and fanfare.js at any other path. A browser revalidates a module each time (304 if it has
// not changed), unless the URL has the [Version] as the query parameter v: then it caches the
// module for a year. fanfare.js loads fanfare-shared.js from its own folder, without v, and
// only for streams with the option shared. Pages of any origin may import the modules.
func Handler() http.Handler {
	return &handler{version: Version(), core: pack(source), shared: pack(sharedSource)}
}

type handler struct {
	version      string
	core, shared module
}

// module is a file, and its gzip.
type module struct{ source, packed []byte }

func pack(source []byte) module {
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	_, _ = w.Write(source) // a bytes.Buffer does not fail
	_ = w.Close()
	return module{source: source, packed: packed.Bytes()}
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
	served := h.core
	if path.Base(r.URL.Path) == sharedName {
		served = h.shared
	}
	content, tag := served.source, h.version
	if acceptsGzip(r) {
		content, tag = served.packed, tag+"-gzip"
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

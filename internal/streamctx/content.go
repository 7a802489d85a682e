package streamctx

import (
	"net/http"
	"slices"
	"strings"
)

// DropContent deletes the fields of a header that describe the content of a response,
// as a layer would have sent it that the stream goes past: a compressor's
// Content-Encoding, a cache's ETag. The stream's bytes are not that layer's, and a label
// that does not fit them makes them unreadable (RFC 9110 section 8.4).
func DropContent(header http.Header) {
	for name := range header {
		if describesContent(name) {
			delete(header, name)
		}
	}
}

// contentOf returns the fields of a header that describe the content; nil if there are
// none.
func contentOf(header http.Header) (content http.Header) {
	for name, values := range header {
		if describesContent(name) {
			if content == nil {
				content = make(http.Header)
			}
			content[name] = slices.Clone(values)
		}
	}
	return content
}

// describesContent reports whether a field describes the content and its transfer (RFC
// 9110 sections 6.6.2, 8.4, 8.6, 8.8, 14.3 and 14.4, RFC 9112 section 6.1, RFC 9530, and
// Content-MD5 and Digest, which those replace). The name may be in any case.
func describesContent(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Content-Encoding", "Content-Length", "Content-Range", "Accept-Ranges",
		"Etag", "Last-Modified", "Trailer", "Transfer-Encoding",
		"Content-Digest", "Repr-Digest", "Digest", "Content-Md5":
		return true
	}
	return strings.HasPrefix(name, http.TrailerPrefix)
}

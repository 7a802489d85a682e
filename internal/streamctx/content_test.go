package streamctx_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// content is what layers say of content that they change or keep.
var content = http.Header{
	"Content-Encoding": {"gzip"}, "Content-Length": {"7"}, "Content-Range": {"bytes 0-6/7"}, "Accept-Ranges": {"bytes"},
	"Etag": {`"1"`}, "ETag": {`"2"`}, "Last-Modified": {"Sat, 28 Nov 2026 00:00:00 GMT"},
	"Content-Md5": {"x"}, "Content-MD5": {"x"}, "Digest": {"x"}, "Content-Digest": {"x"}, "Repr-Digest": {"x"},
	"Trailer": {"X-Sum"}, http.TrailerPrefix + "X-More": {"1"}, "Transfer-Encoding": {"gzip"},
}

// A stream's header has nothing that a layer which it goes past says of the content, as
// the stream's own writer or below another one.
func TestHeaderOfASkippedLayer(t *testing.T) {
	for name, isolated := range map[string]bool{"one header": false, "a header of its own": true} {
		t.Run(name, func(t *testing.T) {
			w := bypassed(func(w http.ResponseWriter, r *http.Request) {
				maps.Copy(w.Header(), content)
				w.Header().Set("Vary", "Accept-Encoding")
				own := w
				if isolated {
					own = httptest.NewRecorder()
					maps.Copy(own.Header(), content)
				}
				claim := streamctx.ClaimOf(own, r)
				defer claim.Leave()
				require.NoError(t, claim.Take())
			})
			assert.Equal(t, http.Header{"Vary": {"Accept-Encoding"}}, w.Header())
		})
	}
}

// What a compressor outside of the Bypass says stays, since the stream writes through it.
func TestHeaderOfALayerOutside(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Encoding", "br")
	streamctx.Bypass(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), content)
		claim := streamctx.ClaimOf(w, r)
		defer claim.Leave()
		require.NoError(t, claim.Take())
	})).ServeHTTP(w, get())
	assert.Equal(t, http.Header{"Content-Encoding": {"br"}}, w.Header())
}

// A response that is no stream keeps all of it.
func TestContentOfAnOrdinaryResponse(t *testing.T) {
	w := bypassed(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), content)
		w.WriteHeader(200)
	})
	assert.Equal(t, content, w.Header())
}

func TestDropContent(t *testing.T) {
	header := maps.Clone(content)
	header["X-Etag"] = []string{"stays"}
	header["Content-Language"] = []string{"en"}
	streamctx.DropContent(header)
	assert.Equal(t, http.Header{"X-Etag": {"stays"}, "Content-Language": {"en"}}, header)
	streamctx.DropContent(nil)
}

package browser_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/browser"
)

func get(h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHandlerServesTheModule(t *testing.T) {
	h := browser.Handler()
	source, err := os.ReadFile("fanfare.js")
	require.NoError(t, err)

	w := get(h, "/fanfare.js")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, string(source), w.Body.String())
	require.Equal(t, "text/javascript; charset=utf-8", w.Header().Get("Content-Type"))
	require.Equal(t, "no-cache", w.Header().Get("Cache-Control"))
	require.Equal(t, "Accept-Encoding", w.Header().Get("Vary"))
	tag := w.Header().Get("ETag")
	require.Equal(t, http.StatusNotModified, get(h, "/fanfare.js", "If-None-Match", tag).Code)
	require.Equal(t, http.StatusOK, get(h, "/fanfare.js", "If-None-Match", `"another"`).Code)

	w = get(h, "/fanfare.js", "Accept-Encoding", "br, gzip;q=0.8")
	require.Equal(t, "gzip", w.Header().Get("Content-Encoding"))
	require.NotEqual(t, tag, w.Header().Get("ETag"), "another representation")
	r, err := gzip.NewReader(w.Body)
	require.NoError(t, err)
	unpacked, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, string(source), string(unpacked))
	for _, refused := range []string{"", "br", "gzip;q=0", "gzip; q=0.000", "x-gzip"} {
		require.Empty(t, get(h, "/", "Accept-Encoding", refused).Header().Get("Content-Encoding"), refused)
	}

	require.Contains(t, get(h, "/any/path?v="+browser.Version()).Header().Get("Cache-Control"), "immutable")
	require.Equal(t, "no-cache", get(h, "/any/path?v=old").Header().Get("Cache-Control"), "another version is not cached")

	shared, err := os.ReadFile("fanfare-shared.js")
	require.NoError(t, err)
	require.Equal(t, string(shared), get(h, "/any/path/fanfare-shared.js").Body.String())

	post := httptest.NewRecorder()
	h.ServeHTTP(post, httptest.NewRequest("POST", "/fanfare.js", strings.NewReader("x")))
	require.Equal(t, http.StatusMethodNotAllowed, post.Code)
}

// TestSize bounds the size of the modules.
func TestSize(t *testing.T) {
	for name, bound := range map[string]int{"fanfare.js": 4784, "fanfare-shared.js": 2804} {
		packed := get(browser.Handler(), "/"+name, "Accept-Encoding", "gzip").Body.Len()
		t.Logf("%s has %d bytes gzipped", name, packed)
		require.LessOrEqual(t, packed, bound, name)
	}
}

// TestModule runs the module's own tests, which need Node 20 or later.
func TestModule(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: fanfare.js is not tested")
	}
	out, err := exec.Command(node, "--test", "--test-reporter=tap").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.True(t, bytes.Contains(out, []byte("\n# fail 0\n")), "%s", out)
	require.False(t, bytes.Contains(out, []byte("\n# tests 0\n")), "%s", out)
}

func ExampleHandler() {
	mux := http.NewServeMux()
	mux.Handle("GET /fanfare.js", browser.Handler())
	server := httptest.NewServer(mux)
	defer server.Close()
	response, err := http.Get(server.URL + "/fanfare.js?v=" + browser.Version())
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	fmt.Println(response.Header.Get("Content-Type"))
	fmt.Println(response.Header.Get("Cache-Control"))
	// Output:
	// text/javascript; charset=utf-8
	// public, max-age=31536000, immutable
}

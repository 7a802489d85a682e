package faults_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/faults"
)

// Compress passes a compressed response on as it is.
func TestCompressPassesCompressedResponses(t *testing.T) {
	h := middleware.Compress(5, "text/plain")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "hello")
	}))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	w := httptest.NewRecorder()
	faults.Compress(h).ServeHTTP(w, r)
	require.Equal(t, []string{"gzip"}, w.Header().Values("Content-Encoding"))
	z, err := gzip.NewReader(w.Body)
	require.NoError(t, err)
	b, _ := io.ReadAll(z)
	require.Equal(t, "hello", string(b))
}

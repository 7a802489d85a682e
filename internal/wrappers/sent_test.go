package wrappers_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/wrappers"
)

// hidden wraps a ResponseWriter in a field without a name of its own, by value.
type hidden struct{ inner opaque }

func (h *hidden) Header() http.Header         { return h.inner.Header() }
func (h *hidden) Write(b []byte) (int, error) { return h.inner.Write(b) }
func (h *hidden) WriteHeader(int)             {} // keeps it to itself

// circle is a wrapper that wraps itself.
type circle struct{ http.ResponseWriter }

// The status is found through wrappers with and without Unwrap, and only once it has
// reached net/http.
func TestSent(t *testing.T) {
	for name, wrap := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"no wrapper":             func(w http.ResponseWriter) http.ResponseWriter { return w },
		"with Unwrap":            func(w http.ResponseWriter) http.ResponseWriter { return open{open{w}} },
		"without Unwrap":         func(w http.ResponseWriter) http.ResponseWriter { return &opaque{opaque{w}} },
		"both":                   func(w http.ResponseWriter) http.ResponseWriter { return open{opaque{open{w}}} },
		"in a field, and kept":   func(w http.ResponseWriter) http.ResponseWriter { return open{&hidden{opaque{w}}} },
		"a field among wrappers": func(w http.ResponseWriter) http.ResponseWriter { return opaque{&hidden{opaque{open{w}}}} },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				wrapped := wrap(w)
				status, known := wrappers.Sent(wrapped)
				assert.True(t, known)
				assert.Zero(t, status)
				w.WriteHeader(http.StatusTeapot)
				status, known = wrappers.Sent(wrapped)
				assert.True(t, known, "if this fails, net/http has a new place for the status")
				assert.Equal(t, http.StatusTeapot, status)
			}))
			defer server.Close()
			response, err := server.Client().Get(server.URL)
			require.NoError(t, err)
			response.Body.Close()
		})
	}
	for name, w := range map[string]http.ResponseWriter{"another server's": httptest.NewRecorder(), "nothing": opaque{}, "itself": around()} {
		_, known := wrappers.Sent(w)
		assert.False(t, known, name)
	}
}

func around() http.ResponseWriter {
	c := new(circle)
	c.ResponseWriter = c
	return c
}

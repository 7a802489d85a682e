package fanfare_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

func TestRefuse(t *testing.T) {
	eventSource := http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}}
	for _, test := range []struct {
		name       string
		header     http.Header
		refusal    *fanfare.Refusal
		status     int
		retryAfter string
	}{
		{"nothing said", nil, nil, 403, ""},
		{"the zero Refusal", nil, &fanfare.Refusal{}, 403, ""},
		{"a final refusal", nil, &fanfare.Refusal{Status: 401}, 401, ""},
		{"a final refusal of an EventSource", eventSource, &fanfare.Refusal{Status: 401}, 401, ""},
		{"no more of this stream", eventSource, &fanfare.Refusal{Status: 204}, 204, ""},
		{"it may pass", nil, &fanfare.Refusal{Status: 429}, 429, ""},
		{"it may pass after a while", nil, &fanfare.Refusal{Status: 503, RetryAfter: 1500 * time.Millisecond}, 503, "2"},
		{"an EventSource would give up on 503", eventSource, &fanfare.Refusal{Status: 503, RetryAfter: 7 * time.Second}, 200, "7"},
		{"a proxy is to try the next server", eventSource, &fanfare.Refusal{Status: 503, Plain: true}, 503, ""},
		{"a fetch-based client accepts more", http.Header{"Accept": {"text/event-stream, */*"}, "Cache-Control": {"no-cache"}}, &fanfare.Refusal{Status: 503}, 503, ""},
		{"a fetch-based client sets no Cache-Control", http.Header{"Accept": {"text/event-stream"}}, &fanfare.Refusal{Status: 503}, 503, ""},
		{"no refusal at all", nil, &fanfare.Refusal{Status: 200}, 500, ""},
		{"not a status", nil, &fanfare.Refusal{Status: 42}, 500, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
			r.Header = test.header
			fanfare.Refuse(w, r, test.refusal)
			assert.Equal(t, test.status, w.Code)
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			assert.Equal(t, test.retryAfter, w.Header().Get("Retry-After"))
		})
	}
}

// An EventSource that is refused for now gets a stream that ends, and a time to come
// back after that differs from client to client.
func TestRefuseSpreads(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		r.Header = http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}}
		fanfare.Refuse(w, r, &fanfare.Refusal{Status: 503})
		require.Equal(t, "text/event-stream", w.Header().Get("Content-Type"))
		var milliseconds int
		_, err := fmt.Sscanf(w.Body.String(), "retry: %d\n\n", &milliseconds)
		require.NoError(t, err, w.Body.String())
		require.GreaterOrEqual(t, milliseconds, 1000)
		require.LessOrEqual(t, milliseconds, 5000)
		require.Equal(t, strconv.Itoa((milliseconds+999)/1000), w.Header().Get("Retry-After"))
		seen[w.Body.String()] = true
	}
	require.Greater(t, len(seen), 50)
}

// The connection of a handshake that is refused ends, whatever was set for it before: some
// middleware for event streams sets keep-alive for all routes.
func TestRefusalOfAHandshakeEndsItsConnection(t *testing.T) {
	for _, set := range []http.Header{{}, {"Connection": {"keep-alive"}}, {"Connection": {"Keep-Alive", "Upgrade"}}} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Upgrade", "websocket")
		maps.Copy(w.Header(), set)
		fanfare.Refuse(w, r, nil)
		assert.Equal(t, []string{"close"}, w.Header().Values("Connection"), set)
	}
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Upgrade", "websocket")
	w.Header()["Connection"] = []string{"close", "Upgrade"} // with 426
	fanfare.Refuse(w, r, nil)
	assert.Equal(t, []string{"close", "Upgrade"}, w.Header().Values("Connection"))
}

// The reason of a refusal can be unwrapped, and is in its text.
func TestRefusalError(t *testing.T) {
	reason := errors.New("no such room")
	err := error(&fanfare.Refusal{Status: 404, Err: reason})
	assert.ErrorIs(t, err, reason)
	assert.EqualError(t, err, "fanfare: refused with status 404: no such room")
	assert.EqualError(t, &fanfare.Refusal{Status: 404}, "fanfare: refused with status 404")
}

// A handler of your own refuses as the kit's handlers do.
func ExampleRefuse() {
	events := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("room") == "" {
			fanfare.Refuse(w, r, &fanfare.Refusal{Status: http.StatusBadRequest})
			return
		}
		// ... sse.NewWriter
	}
	w := httptest.NewRecorder()
	events(w, httptest.NewRequest("GET", "/events", nil))
	fmt.Println(w.Code, w.Body)
	// Output: 400 Bad Request
}

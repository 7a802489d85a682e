package ws_test

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/ws"
)

// plainWriter is a ResponseWriter of a middleware that hides what it wraps.
type plainWriter struct{ http.ResponseWriter }

// goodWriter is one of a middleware with Unwrap.
type goodWriter struct{ http.ResponseWriter }

func (g goodWriter) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// Upgrade answers each request with the status and header of RFC 6455 section 4.2.2,
// and leaves other headers alone.
func TestHandshake(t *testing.T) {
	refuse := func(*http.Request) error { return fmt.Errorf("not you") }
	for _, test := range []struct {
		name   string
		change func(r *http.Request)
		o      *ws.Options
		status int
		header string // "Name: value" that the answer must have
	}{
		{"as it should be", func(*http.Request) {}, nil, 101, "Upgrade: websocket"},
		{"POST", func(r *http.Request) { r.Method = "POST" }, nil, 405, "Allow: GET"},
		{"no upgrade", func(r *http.Request) { r.Header.Del("Upgrade") }, nil, 426, "Upgrade: websocket"},
		{"no connection token", func(r *http.Request) { r.Header.Set("Connection", "close") }, nil, 426, "Upgrade: websocket"},
		{"another version", func(r *http.Request) { r.Header.Set("Sec-WebSocket-Version", "8") }, nil, 426, "Sec-WebSocket-Version: 13"},
		{"no key", func(r *http.Request) { r.Header.Del("Sec-WebSocket-Key") }, nil, 400, ""},
		{"a short key", func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "Zm9v") }, nil, 400, ""},
		{"two keys", func(r *http.Request) { r.Header.Add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==") }, nil, 400, ""},
		{"HTTP/2", func(r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0 }, nil, 501, ""},
		{"HTTP/1.0", func(r *http.Request) { r.Proto, r.ProtoMinor = "HTTP/1.0", 0 }, nil, 426, ""},
		{"the same origin", func(r *http.Request) { r.Header.Set("Origin", "https://EXAMPLE.com") }, nil, 101, ""},
		{"a foreign origin", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, nil, 403, ""},
		{"another port", func(r *http.Request) { r.Header.Set("Origin", "https://example.com:444") }, nil, 403, ""},
		{"a null origin", func(r *http.Request) { r.Header.Set("Origin", "null") }, nil, 403, ""},
		{"a cross-site fetch without origin", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, nil, 403, ""},
		{"a same-site fetch without origin", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, nil, 403, ""},
		{"a same-origin fetch without origin", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }, nil, 101, ""},
		{"CheckOrigin refuses", func(*http.Request) {}, &ws.Options{CheckOrigin: refuse}, 403, ""},
		{"CheckOrigin allows", func(r *http.Request) { r.Header.Set("Origin", "https://friend.example") },
			&ws.Options{CheckOrigin: func(*http.Request) error { return nil }}, 101, ""},
		{"a subprotocol", func(r *http.Request) { r.Header.Set("Sec-WebSocket-Protocol", "bearer.secret, v2, v1") },
			&ws.Options{Subprotocols: []string{"v1", "v2"}}, 101, "Sec-WebSocket-Protocol: v1"},
		{"a subprotocol that is not known is not echoed", func(r *http.Request) { r.Header.Set("Sec-WebSocket-Protocol", "bearer.secret") },
			&ws.Options{Subprotocols: []string{"v1"}}, 101, "Sec-WebSocket-Protocol: "},
		{"headers set before go out with it", func(*http.Request) {}, nil, 101, "Set-Cookie: a=b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := upgraded(test.o, func(c *ws.Conn) {})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Host = "example.com"
				test.change(r)
				w.Header().Set("Set-Cookie", "a=b")
				h.ServeHTTP(goodWriter{w}, r)
			}))
			defer server.Close()
			r, err := http.NewRequest("GET", server.URL, nil)
			require.NoError(t, err)
			for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket",
				"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
				r.Header.Set(name, value)
			}
			response, err := http.DefaultTransport.RoundTrip(r)
			require.NoError(t, err)
			defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
			defer response.Body.Close()
			assert.Equal(t, test.status, response.StatusCode)
			if name, value, ok := strings.Cut(test.header, ": "); ok {
				assert.Equal(t, value, response.Header.Get(name))
			}
		})
	}
	t.Run("a writer that cannot be hijacked", func(t *testing.T) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket",
			"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
			r.Header.Set(name, value)
		}
		_, err := ws.Upgrade(goodWriter{plainWriter{w}}, r, nil)
		require.ErrorIs(t, err, ws.ErrCannotHijack)
		require.ErrorContains(t, err, "ws_test.plainWriter")
		require.ErrorContains(t, err, "Unwrap")
		require.Equal(t, 500, w.Code)
	})
}

// The connection is closed with 1001.
func TestRequestContextEndsTheConn(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	h := upgraded(nil, func(c *ws.Conn) { c.Read(context.Background()) })
	serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r.WithContext(ctx)) }), func(t *testing.T, n *network) {
		p := n.raw("/", "")
		synctest.Wait()
		cancel()
		p.closes(ws.StatusGoingAway)
	})
}

// accept returns the Sec-WebSocket-Accept of a key (RFC 6455 section 1.3).
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

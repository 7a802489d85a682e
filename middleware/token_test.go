package middleware_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// A token is moved to the Authorization header, and is not left in its place or in the log.
func TestToken(t *testing.T) {
	const sse, socket = "sse", "websocket"
	long := strings.Repeat("x", 16<<10)
	for _, test := range []struct {
		name, why  string
		token      middleware.Token
		kind       string // of request
		target     string
		header     http.Header
		refused    bool
		authorized string // the Authorization header below
		uri        string // and the request's URI
		offered    string // and the subprotocols
	}{
		{name: "no token", why: "the request stays as it is", token: middleware.Token{Query: "token", Subprotocol: "bearer."}, kind: sse, target: "/a?b=c", uri: "/a?b=c"},
		{name: "in the query", why: "an EventSource cannot set headers", token: middleware.Token{Query: "token"}, kind: sse, target: "/a?b=c&token=x.y-z&d", authorized: "Bearer x.y-z", uri: "/a?b=c&d"},
		{name: "alone in the query", why: "no question mark is left", token: middleware.Token{Query: "token"}, kind: sse, target: "/a?token=x", authorized: "Bearer x", uri: "/a"},
		{name: "escaped", why: "it is unescaped", token: middleware.Token{Query: "access token"}, kind: sse, target: "/a?access+token=a%2Bb%3D", authorized: "Bearer a+b=", uri: "/a"},
		{name: "of a WebSocket in the query", why: "it is a stream, too", token: middleware.Token{Query: "token"}, kind: socket, target: "/a?token=x", authorized: "Bearer x", uri: "/a"},
		{name: "of another request", why: "it can set headers", token: middleware.Token{Query: "token"}, target: "/a?token=x", uri: "/a?token=x"},
		{name: "beside a header", why: "the header is kept, and the token is still removed from the URL", token: middleware.Token{Query: "token"}, kind: sse, target: "/a?token=x",
			header: http.Header{"Authorization": {"Basic y"}}, authorized: "Basic y", uri: "/a"},
		{name: "another parameter", why: "names are exact", token: middleware.Token{Query: "token"}, kind: sse, target: "/a?Token=x&tokens=y", uri: "/a?Token=x&tokens=y"},
		{name: "empty", why: "it is not a token", token: middleware.Token{Query: "token"}, kind: sse, target: "/a?token=", uri: "/a"},
		{name: "twice", why: "which one is meant is not known", token: middleware.Token{Query: "token"}, kind: sse, target: "/a?token=x&token=y", refused: true},
		{name: "16 KiB long", why: "servers refuse a header of that length", token: middleware.Token{Query: "token"}, kind: sse, target: "/a?token=" + long, refused: true},
		{name: "with a line break", why: "it would be another header", token: middleware.Token{Query: "token"}, kind: sse, target: "/a?token=x%0d%0aX-Admin:1", refused: true},
		{name: "with a space", why: "RFC 6750", token: middleware.Token{Query: "token"}, kind: sse, target: "/a?token=x+y", refused: true},
		{name: "of padding alone", why: "RFC 6750", token: middleware.Token{Query: "token"}, kind: sse, target: "/a?token===", refused: true},
		{name: "badly escaped", why: "it is not a token", token: middleware.Token{Query: "token"}, kind: sse, target: "/a?token=%zz", refused: true},
		{name: "no Query", why: "the query is not read", token: middleware.Token{Subprotocol: "bearer."}, kind: sse, target: "/a?token=x", uri: "/a?token=x"},

		{name: "in a subprotocol", why: "a browser's WebSocket can set that", token: middleware.Token{Subprotocol: "bearer."}, kind: socket, target: "/a",
			header: http.Header{"Sec-Websocket-Protocol": {"chat.v1, bearer.x.y"}}, authorized: "Bearer x.y", uri: "/a", offered: "chat.v1"},
		{name: "in a subprotocol of a second line", why: "the lines of a header are one list", token: middleware.Token{Subprotocol: "bearer."}, kind: socket, target: "/a",
			header: http.Header{"Sec-Websocket-Protocol": {"chat.v1", "bearer.x", "chat.v2"}}, authorized: "Bearer x", uri: "/a", offered: "chat.v1, chat.v2"},
		{name: "in base64url", why: "a subprotocol cannot contain all characters", token: middleware.Token{Subprotocol: "base64url.bearer.authorization.k8s.io."}, kind: socket, target: "/a",
			header: http.Header{"Sec-Websocket-Protocol": {"base64url.bearer.authorization.k8s.io.YS9iPQ, v4"}}, authorized: "Bearer a/b=", uri: "/a", offered: "v4"},
		{name: "in what is not base64url", why: "it is not a token", token: middleware.Token{Subprotocol: "base64url."}, kind: socket, target: "/a",
			header: http.Header{"Sec-Websocket-Protocol": {"base64url.!"}}, refused: true},
		{name: "after a marker", why: "some clients send it so", token: middleware.Token{Subprotocol: "bearer"}, kind: socket, target: "/a",
			header: http.Header{"Sec-Websocket-Protocol": {"bearer, x.y, chat.v1"}}, authorized: "Bearer x.y", uri: "/a", offered: "chat.v1"},
		{name: "a marker at the end", why: "nothing follows it", token: middleware.Token{Subprotocol: "bearer"}, kind: socket, target: "/a",
			header: http.Header{"Sec-Websocket-Protocol": {"chat.v1, bearer"}}, uri: "/a", offered: "chat.v1"},
		{name: "in both places", why: "which one is meant is not known", token: middleware.Token{Query: "token", Subprotocol: "bearer."}, kind: socket, target: "/a?token=x",
			header: http.Header{"Sec-Websocket-Protocol": {"bearer.y"}}, refused: true},
		{name: "an empty subprotocol", why: "it is not a token", token: middleware.Token{Subprotocol: "bearer."}, kind: socket, target: "/a",
			header: http.Header{"Sec-Websocket-Protocol": {"bearer., chat.v1"}}, uri: "/a", offered: "chat.v1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := get(test.target)
			for name, values := range test.header {
				r.Header[name] = values
			}
			switch test.kind {
			case sse:
				r.Header.Set("Accept", "text/event-stream")
			case socket:
				r.Header.Set("Upgrade", "websocket")
			}
			before := r.Clone(context.Background())
			var log bytes.Buffer
			test.token.Logger = slog.New(slog.NewTextHandler(&log, nil))
			var below *http.Request
			w := httptest.NewRecorder()
			test.token.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { below = r })).ServeHTTP(w, r)

			require.Equal(t, before.Header, r.Header, "the caller's request is not changed")
			require.Equal(t, before.URL, r.URL)
			if test.refused {
				require.Nil(t, below, test.why)
				require.Equal(t, 400, w.Code)
				require.Equal(t, 1, strings.Count(log.String(), "\n"), "it is logged once")
				require.NotContains(t, log.String(), "token=", "without its token")
				require.NotContains(t, log.String(), "xxx")
				return
			}
			require.NotNil(t, below, test.why)
			assert.Equal(t, test.authorized, below.Header.Get("Authorization"), test.why)
			assert.Equal(t, test.uri, below.RequestURI)
			assert.Equal(t, test.uri, below.URL.RequestURI())
			assert.Equal(t, test.offered, below.Header.Get("Sec-Websocket-Protocol"))
			assert.Empty(t, log.String())
		})
	}
}

// A token is removed wherever the request has a copy of it, and from each kind of request
// that carries one.
func TestTokenIsRemovedEverywhere(t *testing.T) {
	token := &middleware.Token{Query: "token", Logger: silent}
	below := func(r *http.Request, outer func(http.Handler) http.Handler) (got *http.Request) {
		outer(token.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))).ServeHTTP(httptest.NewRecorder(), r)
		return got
	}
	id := func(h http.Handler) http.Handler { return h }
	stream := func(method, target string) *http.Request {
		r := httptest.NewRequest(method, target, nil)
		r.Header.Set("Accept", "text/event-stream")
		return r
	}
	t.Run("r.Form", func(t *testing.T) {
		r := stream("GET", "/a?token=secret")
		require.NoError(t, r.ParseForm())
		assert.Empty(t, below(r, id).FormValue("token"))
	})
	t.Run("a list in Upgrade", func(t *testing.T) {
		r := httptest.NewRequest("GET", "/a?token=secret", nil)
		r.Header.Set("Upgrade", "h2c, websocket") // which ws.Upgrade accepts
		got := below(r, id)
		assert.NotContains(t, got.RequestURI, "secret")
		assert.Equal(t, "Bearer secret", got.Header.Get("Authorization"))
	})
	t.Run("Accept of other case, in the second line", func(t *testing.T) {
		for _, accept := range [][]string{{"Text/Event-Stream"}, {"text/html", "text/event-stream"}} {
			r := httptest.NewRequest("GET", "/a?token=secret", nil)
			r.Header["Accept"] = accept // which sse.Handler accepts
			got := below(r, id)
			assert.NotContains(t, got.RequestURI, "secret")
		}
	})
	t.Run("a preflight", func(t *testing.T) {
		r := httptest.NewRequest("OPTIONS", "/a?token=secret", nil)
		r.Header.Set("Origin", "https://friend.example")
		r.Header.Set("Access-Control-Request-Method", "GET")
		r.Header.Set("Access-Control-Request-Headers", "last-event-id")
		got := below(r, id)
		assert.NotContains(t, got.RequestURI, "secret")
	})
	t.Run("StripPrefix", func(t *testing.T) {
		got := below(stream("GET", "/api/a?token=secret&b=c"), func(h http.Handler) http.Handler { return http.StripPrefix("/api", h) })
		assert.Equal(t, "/api/a?b=c", got.RequestURI, "the URI that the client sent, without the token")
		got = below(stream("GET", "/api/a?b=c"), func(h http.Handler) http.Handler { return http.StripPrefix("/api", h) })
		assert.Equal(t, "/api/a?b=c", got.RequestURI, "there is no token")
	})
}

// A server that knows the subprotocol with the token does not select it.
func TestTokenIsNotSelected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := &middleware.Token{Subprotocol: "bearer."}
		authorized := make(chan string, 1)
		h := token.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			authorized <- r.Header.Get("Authorization")
			c, err := ws.Upgrade(w, r, &ws.Options{Subprotocols: []string{"bearer.secret", "chat.v1"}})
			if assert.NoError(t, err) {
				defer c.CloseNow()
				<-c.Context().Done()
			}
		}))
		r := get("/")
		r.Header.Set("Sec-WebSocket-Protocol", "bearer.secret, chat.v1")
		c := wstest.Dial(t, h, r)
		require.Equal(t, "chat.v1", c.Subprotocol())
		require.Equal(t, "Bearer secret", <-authorized)
	})
}

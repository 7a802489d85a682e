package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

// Pages of the request's own host and of the origins in Allow pass, and requests that come
// from no browser.
func TestOriginsCheck(t *testing.T) {
	allow := []string{"https://friend.example", "https://*.example.org", "http://localhost:3000", "https://xn--bcher-kva.example", "https://ports.example:8443"}
	for _, test := range []struct {
		name, why string
		header    http.Header
		host      string
		passes    bool
	}{
		{"no browser", "it sends neither header", nil, "", true},
		{"the same host", "it is the server's own page", http.Header{"Origin": {"https://example.com"}}, "", true},
		{"the same host in upper case", "host names have no case", http.Header{"Origin": {"https://EXAMPLE.com"}}, "", true},
		{"the same host over plain HTTP", "TLS may end at a proxy", http.Header{"Origin": {"http://example.com"}}, "", true},
		{"the same port", "it is the server's own page", http.Header{"Origin": {"http://example.com:8080"}}, "example.com:8080", true},
		{"the scheme's default port", "it may be written or not", http.Header{"Origin": {"https://example.com"}}, "example.com:443", true},
		{"another port", "it may be another program", http.Header{"Origin": {"http://example.com:8081"}}, "example.com:8080", false},
		{"another host", "it is another host", http.Header{"Origin": {"https://evil.example"}}, "", false},
		{"null", "a sandboxed frame or a file", http.Header{"Origin": {"null"}}, "", false},
		{"empty", "no browser sends that", http.Header{"Origin": {""}}, "", false},
		{"two", "no browser sends that", http.Header{"Origin": {"https://example.com", "https://evil.example"}}, "", false},
		{"two in one", "it is not an origin", http.Header{"Origin": {"https://example.com, https://evil.example"}}, "", false},
		{"with an invalid escape", "it is not an origin", http.Header{"Origin": {"https://%zz"}}, "", false},
		{"with a path", "it is not an origin", http.Header{"Origin": {"https://example.com/"}}, "", false},
		{"with a user", "it is not an origin", http.Header{"Origin": {"https://example.com@evil.example"}}, "", false},
		{"the host as a prefix", "a suffix attack", http.Header{"Origin": {"https://example.com.evil.example"}}, "", false},
		{"the host as a suffix", "a prefix attack", http.Header{"Origin": {"https://evil-example.com"}}, "", false},

		{"allowed", "it is listed", http.Header{"Origin": {"https://friend.example"}}, "", true},
		{"allowed, with the scheme's default port", "it may be written or not", http.Header{"Origin": {"https://friend.example:443"}}, "", true},
		{"allowed, in upper case", "host names have no case", http.Header{"Origin": {"https://Friend.Example"}}, "", true},
		{"allowed over TLS, not without", "anybody on the network can forge that", http.Header{"Origin": {"http://friend.example"}}, "", false},
		{"allowed on one port, not on another", "it may be another program", http.Header{"Origin": {"https://friend.example:8443"}}, "", false},
		{"allowed on its port", "it is listed", http.Header{"Origin": {"https://ports.example:8443"}}, "", true},
		{"allowed on a port, not without", "it may be another program", http.Header{"Origin": {"https://ports.example"}}, "", false},
		{"a subdomain", "it is listed", http.Header{"Origin": {"https://app.example.org"}}, "", true},
		{"a subdomain of a subdomain", "the depth does not count", http.Header{"Origin": {"https://a.b.example.org"}}, "", true},
		{"the domain itself", "only its subdomains are listed", http.Header{"Origin": {"https://example.org"}}, "", false},
		{"a name that ends alike", "a suffix attack", http.Header{"Origin": {"https://evil-example.org"}}, "", false},
		{"a name that begins alike", "a prefix attack", http.Header{"Origin": {"https://app.example.org.evil.example"}}, "", false},
		{"an international name", "as browsers send it", http.Header{"Origin": {"https://xn--bcher-kva.example"}}, "", true},
		{"a development server", "it is listed", http.Header{"Origin": {"http://localhost:3000"}}, "", true},

		{"a cross-site page without an Origin", "Sec-Fetch-Site says so", http.Header{"Sec-Fetch-Site": {"cross-site"}}, "", false},
		{"another host of the site without an Origin", "it may be somebody else's", http.Header{"Sec-Fetch-Site": {"same-site"}}, "", false},
		{"its own page without an Origin", "an EventSource sends none", http.Header{"Sec-Fetch-Site": {"same-origin"}}, "", true},
		{"typed into the address bar", "there is no page", http.Header{"Sec-Fetch-Site": {"none"}}, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := get("/")
			r.Host = "example.com"
			if test.host != "" {
				r.Host = test.host
			}
			if test.header != nil {
				r.Header = test.header
			}
			o := &middleware.Origins{Allow: allow, Logger: silent}
			err := o.Check(r)
			assert.Equal(t, test.passes, err == nil, "%s: %v", test.why, err)
			w := httptest.NewRecorder()
			o.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })).ServeHTTP(w, r)
			assert.Equal(t, map[bool]int{true: 204, false: 403}[test.passes], w.Code)
			assert.Contains(t, w.Header().Values("Vary"), "Origin")
		})
	}
}

// Text that contains an allowed origin or the host, or looks like one, is refused. Headers
// of a proxy, which a client can set, do not count.
func TestOriginsRefuseWhatLooksAlike(t *testing.T) {
	o := &middleware.Origins{Allow: []string{"https://friend.example", "https://*.example.org"}, Logger: silent}
	for _, origin := range []string{
		"https://friend.example@evil.example", "https://evil.example#friend.example", "https://evil.example?.example.org", "https://evil.example/.example.org",
		"https://evil.example\\.example.org", "https://evil.example%2f.example.org", "https://evil.example%00.example.org", "https://friend.example.", "https://a.example.org.",
		"https://evil.example:443.example.org", "https://evil.example:80@a.example.org", "https://[::1%25.example.org]", "https://[::1].example.org", "https:friend.example", "//friend.example", "friend.example",
		"https://friend.example:444", "https://friend.example:0443", "http://a.example.org", "wss://friend.example", "https://friend.example https://evil.example",
		"https://evil-example.org", "https://ex\u0430mple.org", "https://a\u3002example.org", "https://example.org", "blob:https://friend.example", "file://", "https://", "https://:443", "NULL",
		"https://\tfriend.example", "https://friend.exampl\u0065\u0301", "https://b.com", "http://b.com:81", "https://[::1]",
	} {
		r := get("/")
		r.Host = "b.com:8080"
		r.Header = http.Header{"Origin": {origin}, "X-Forwarded-Host": {"b.com"}, "Forwarded": {"host=b.com"}, "X-Forwarded-Proto": {"https"}}
		assert.Error(t, o.Check(r), origin)
	}
	for host, origin := range map[string]string{"[::1]:8080": "http://[::1]:8080", "[::1]": "http://[::1]:80", "B.com": "https://b.COM"} {
		r := get("/")
		r.Host = host
		r.Header.Set("Origin", origin)
		assert.NoError(t, o.Check(r), origin)
	}
}

// An entry of Allow that is not an origin is an error for every request.
func TestOriginsOfAnInvalidAllow(t *testing.T) {
	for _, pattern := range []string{"", "*", "example.com", "https://", "https://*", "https://a.*.example", "https://*example.com", "https://bücher.example", "https://example.com/path", "https://a b"} {
		o := &middleware.Origins{Allow: []string{"https://fine.example", pattern}, Logger: silent}
		require.ErrorContains(t, o.Check(get("/")), "Origins.Allow[1]", pattern)
	}
}

// A page that Allow lists gets the headers of CORS, so that it may send cookies and, after
// a preflight request, headers. Others get none.
func TestOriginsCORS(t *testing.T) {
	o := &middleware.Origins{Allow: []string{"https://friend.example"}, Logger: silent}
	called := 0
	h := o.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { called++ }))

	r := get("/")
	r.Header.Set("Origin", "https://friend.example")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 1, called)
	require.Equal(t, "https://friend.example", w.Header().Get("Access-Control-Allow-Origin"), "with credentials it must not be *")
	require.Equal(t, "true", w.Header().Get("Access-Control-Allow-Credentials"))

	preflight := httptest.NewRequest("OPTIONS", "/", nil)
	preflight.Header.Set("Origin", "https://friend.example")
	preflight.Header.Set("Access-Control-Request-Method", "GET")
	preflight.Header.Set("Access-Control-Request-Headers", "last-event-id")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, preflight)
	require.Equal(t, 204, w.Code)
	require.Contains(t, w.Header().Get("Access-Control-Allow-Headers"), "Last-Event-ID")
	require.Contains(t, w.Header().Get("Access-Control-Allow-Methods"), "GET")
	require.Equal(t, 1, called, "the preflight request is answered by Origins")

	preflight.Header.Set("Origin", "https://evil.example")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, preflight)
	require.Equal(t, 403, w.Code)
	require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))

	w = httptest.NewRecorder()
	h.ServeHTTP(w, get("/"))
	require.Equal(t, 2, called)
	require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"), "the request has no Origin")
}

// A page of the same host over another scheme gets them as well if Allow lists it: to a
// browser that is another origin.
func TestOriginsCORSOfAnotherScheme(t *testing.T) {
	o := &middleware.Origins{Allow: []string{"http://example.com"}, Logger: silent}
	r := httptest.NewRequest("GET", "https://example.com/", nil)
	r.Header.Set("Origin", "http://example.com")
	w := httptest.NewRecorder()
	o.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
	require.Equal(t, 200, w.Code)
	require.Equal(t, "http://example.com", w.Header().Get("Access-Control-Allow-Origin"))
}

// Both transports accept the same pages.
func TestOriginsOnBothTransports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub broadcast.Hub
		o := &middleware.Origins{Allow: []string{"https://friend.example"}, Logger: silent}
		from := func(origin string) *http.Request {
			r := get("/")
			r.Header.Set("Origin", origin)
			return r
		}
		events := o.Handler(news(&hub))
		require.Equal(t, 403, ssetest.Connect(t, events, from("https://evil.example")).Status())
		require.Equal(t, 200, ssetest.Connect(t, events, from("https://friend.example")).Status())

		socket := o.Handler(&ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent})
		wstest.Dial(t, socket, from("https://friend.example"))
		require.ErrorContains(t, wstest.Diagnose(socket, from("https://evil.example")), "403")

		// Check alone works as the CheckOrigin of a WebSocket.
		alone := &ws.Handler{Broadcaster: &hub, Topics: []string{"news"}, Logger: silent, Options: ws.Options{CheckOrigin: o.Check}}
		wstest.Dial(t, alone, from("https://friend.example"))
	})
}

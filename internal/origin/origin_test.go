package origin_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/origin"
	"github.com/fanfare-go/fanfare/middleware"
	"github.com/fanfare-go/fanfare/ws"
)

// pages are requests for the host example.com unless they name another.
var pages = []struct {
	name, why string
	header    http.Header
	host      string
	passes    bool
}{
	{"no browser", "it sends neither header", nil, "", true},
	{"the same host", "it is the server's own page", http.Header{"Origin": {"https://example.com"}}, "", true},
	{"the same host in upper case in Origin", "host names have no case", http.Header{"Origin": {"https://EXAMPLE.com"}}, "", true},
	{"the same host in upper case in Host", "host names have no case", http.Header{"Origin": {"https://example.com"}}, "Example.COM", true},
	{"a scheme in upper case", "schemes have no case", http.Header{"Origin": {"HTTPS://example.com"}}, "example.com:443", true},
	{"the same host over plain HTTP", "TLS may end at a proxy", http.Header{"Origin": {"http://example.com"}}, "", true},

	{"the same port", "it is the server's own page", http.Header{"Origin": {"http://example.com:8080"}}, "example.com:8080", true},
	{"another port", "it may be another program", http.Header{"Origin": {"http://example.com:8081"}}, "example.com:8080", false},
	{"a port in Host only", "it may be another program", http.Header{"Origin": {"http://example.com"}}, "example.com:8080", false},
	{"a port in Origin only", "it may be another program", http.Header{"Origin": {"http://example.com:8080"}}, "", false},
	{"the default port of https in Host", "it may be written or not", http.Header{"Origin": {"https://example.com"}}, "example.com:443", true},
	{"the default port of https in Origin", "it may be written or not", http.Header{"Origin": {"https://example.com:443"}}, "", true},
	{"the default port of http in Host", "it may be written or not", http.Header{"Origin": {"http://example.com"}}, "example.com:80", true},
	{"the default port of http in Origin", "it may be written or not", http.Header{"Origin": {"http://example.com:80"}}, "", true},
	{"the default port of the other scheme", "it is not this scheme's", http.Header{"Origin": {"http://example.com"}}, "example.com:443", false},
	{"a port with a leading zero", "no browser writes it so", http.Header{"Origin": {"https://example.com:0443"}}, "", false},
	{"an empty port", "no browser writes it so", http.Header{"Origin": {"https://example.com:"}}, "", false},

	{"an IPv6 address", "it is the server's own page", http.Header{"Origin": {"http://[2001:db8::1]"}}, "[2001:db8::1]", true},
	{"an IPv6 address and the default port", "it may be written or not", http.Header{"Origin": {"http://[2001:db8::1]"}}, "[2001:db8::1]:80", true},
	{"an IPv6 address and a port", "it is the server's own page", http.Header{"Origin": {"http://[2001:DB8::1]:8080"}}, "[2001:db8::1]:8080", true},
	{"an IPv6 address that ends like the default port", "80 is a part of the address", http.Header{"Origin": {"http://[2001:db8::80]"}}, "[2001:db8:]", false},
	{"another IPv6 address", "it is another host", http.Header{"Origin": {"http://[2001:db8::2]"}}, "[2001:db8::1]", false},

	{"another host", "it is another host", http.Header{"Origin": {"https://evil.example"}}, "", false},
	{"a subdomain", "it is another host", http.Header{"Origin": {"https://app.example.com"}}, "", false},
	{"the domain above", "it is another host", http.Header{"Origin": {"https://com"}}, "", false},
	{"the host as a prefix", "it is another host", http.Header{"Origin": {"https://example.com.evil.example"}}, "", false},
	{"the host as a suffix", "it is another host", http.Header{"Origin": {"https://evil-example.com"}}, "", false},
	{"a trailing dot", "it is another origin to a browser", http.Header{"Origin": {"https://example.com."}}, "", false},
	{"no Host", "HTTP/1.0 need not send one, a browser does", http.Header{"Origin": {"https://example.com"}}, "-", false},

	{"null", "a sandboxed frame or a file", http.Header{"Origin": {"null"}}, "", false},
	{"an empty Origin", "no browser sends it", http.Header{"Origin": {""}}, "", false},
	{"two Origin headers", "no browser sends them", http.Header{"Origin": {"https://example.com", "https://evil.example"}}, "", false},
	{"the same Origin header twice", "no browser sends them", http.Header{"Origin": {"https://example.com", "https://example.com"}}, "", false},
	{"two origins in a header", "it is not an origin", http.Header{"Origin": {"https://example.com https://evil.example"}}, "", false},
	{"an escape", "it is not an origin", http.Header{"Origin": {"https://%zz"}}, "", false},
	{"an escaped host", "it is not an origin", http.Header{"Origin": {"https://%65xample.com"}}, "", false},
	{"a path", "it is not an origin", http.Header{"Origin": {"https://example.com/"}}, "", false},
	{"a query", "it is not an origin", http.Header{"Origin": {"https://example.com?"}}, "", false},
	{"a fragment", "it is not an origin", http.Header{"Origin": {"https://example.com#"}}, "", false},
	{"the host as a user", "it is not an origin", http.Header{"Origin": {"https://example.com@evil.example"}}, "", false},
	{"a user of the host", "it is not an origin", http.Header{"Origin": {"https://evil.example@example.com"}}, "", false},
	{"no scheme", "it is not an origin", http.Header{"Origin": {"//example.com"}}, "", false},
	{"a host alone", "it is not an origin", http.Header{"Origin": {"example.com"}}, "", false},
	{"a scheme alone", "it is not an origin", http.Header{"Origin": {"https://"}}, "", false},
	{"a scheme without slashes", "it is not an origin", http.Header{"Origin": {"https:example.com"}}, "", false},
	{"a letter that folds to ASCII", "U+212A (KELVIN SIGN) is not k", http.Header{"Origin": {"https://\u212a.example"}}, "k.example", false},

	{"a cross-site page without Origin", "browsers say so in Sec-Fetch-Site", http.Header{"Sec-Fetch-Site": {"cross-site"}}, "", false},
	{"a same-site page without Origin", "another host of the site may be somebody else's", http.Header{"Sec-Fetch-Site": {"same-site"}}, "", false},
	{"an unknown Sec-Fetch-Site", "what is not known is refused", http.Header{"Sec-Fetch-Site": {"Cross-Site"}}, "", false},
	{"one Sec-Fetch-Site of two", "each of them counts", http.Header{"Sec-Fetch-Site": {"same-origin", "cross-site"}}, "", false},
	{"a same-origin page without Origin", "an EventSource sends none to its own origin", http.Header{"Sec-Fetch-Site": {"same-origin"}}, "", true},
	{"no page", "the user has typed the address", http.Header{"Sec-Fetch-Site": {"none"}}, "", true},
	{"an empty Sec-Fetch-Site", "it says nothing", http.Header{"Sec-Fetch-Site": {""}}, "", true},
	{"the same host from another scheme", "Origin counts: TLS may end at a proxy", http.Header{"Origin": {"http://example.com"}, "Sec-Fetch-Site": {"cross-site"}}, "", true},
	{"another host that calls itself same-origin", "Origin counts", http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"same-origin"}}, "", false},
	{"the host in a proxy's header", "a client can set that", http.Header{"Origin": {"https://evil.example"}, "X-Forwarded-Host": {"evil.example"}, "Forwarded": {"host=evil.example"}}, "", false},
}

// request is the handshake of a WebSocket that comes from a page.
func request(header http.Header, host string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	for name, values := range header {
		r.Header[name] = values
	}
	switch host {
	case "":
		r.Host = "example.com"
	case "-":
		r.Host = ""
	default:
		r.Host = host
	}
	return r
}

// Pages of the request's own host pass, and requests that come from no browser. All
// others are refused.
func TestCheck(t *testing.T) {
	for _, test := range pages {
		t.Run(test.name, func(t *testing.T) {
			err := origin.Check(request(test.header, test.host))
			assert.Equal(t, test.passes, err == nil, "%s: %v", test.why, err)
		})
	}
}

// ws.Upgrade, ws.Handler and middleware.Origins accept the same pages, with and without
// Origins in front, and a refusal names the field that changes it.
func TestUpgradeAndOriginsAgree(t *testing.T) {
	var origins middleware.Origins
	var upgraded error
	upgrade := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, upgraded = ws.Upgrade(w, r, nil) })
	handler := &ws.Handler{Logger: slog.New(slog.DiscardHandler), ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
		upgraded = err
		w.WriteHeader(http.StatusTeapot)
	}}
	for _, test := range pages {
		t.Run(test.name, func(t *testing.T) {
			err := origins.Check(request(test.header, test.host))
			require.Equal(t, test.passes, err == nil, "%s: %v", test.why, err)
			if !test.passes {
				assert.ErrorContains(t, err, "Origins.Allow")
			}
			for name, h := range map[string]http.Handler{"Upgrade": upgrade, "Handler": handler} {
				h.ServeHTTP(httptest.NewRecorder(), request(test.header, test.host))
				var handshake *ws.HandshakeError
				require.ErrorAs(t, upgraded, &handshake, name)
				if test.passes { // a recorder cannot be hijacked, which is the next thing to be checked
					assert.ErrorIs(t, upgraded, ws.ErrCannotHijack, "%s: %s", name, test.why)
					continue
				}
				assert.Equal(t, http.StatusForbidden, handshake.Status, "%s: %s", name, test.why)
				assert.ErrorContains(t, upgraded, "Options.CheckOrigin", name)
			}
		})
	}
}

// An origin is in lower case and without the default port, and nothing else is one.
func TestParse(t *testing.T) {
	for _, test := range []struct {
		text string
		want origin.Origin
		ok   bool
	}{
		{"https://example.com", origin.Origin{Scheme: "https", Host: "example.com"}, true},
		{"https://Example.com:443", origin.Origin{Scheme: "https", Host: "example.com"}, true},
		{"https://example.com:80", origin.Origin{Scheme: "https", Host: "example.com:80"}, true},
		{"http://[::1]:80", origin.Origin{Scheme: "http", Host: "[::1]"}, true},
		{"app://localhost", origin.Origin{Scheme: "app", Host: "localhost"}, true},
		{"null", origin.Origin{}, false},
		{"blob:https://example.com", origin.Origin{}, false},
		{"file://", origin.Origin{}, false},
		{"https://:443", origin.Origin{}, false},
		{"https://example.com\\.evil.example", origin.Origin{}, false},
		{"https://\texample.com", origin.Origin{}, false},
		{"https://bücher.example", origin.Origin{}, false},
	} {
		o, ok := origin.Parse(test.text)
		assert.Equal(t, test.ok, ok, test.text)
		if ok {
			assert.Equal(t, test.want, o, test.text)
		}
	}
}

// Parse accepts only text that it can write again, but for case and the default port.
func FuzzParse(f *testing.F) {
	for _, test := range pages {
		for _, text := range test.header["Origin"] {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, ok := origin.Parse(text)
		if !ok {
			return
		}
		require.NotEmpty(t, o.Scheme)
		require.NotEmpty(t, o.Host)
		again, ok := origin.Parse(o.Scheme + "://" + o.Host)
		require.True(t, ok)
		require.Equal(t, o.Scheme, again.Scheme)
		require.NotContains(t, o.Host, "@")
		require.NotContains(t, o.Host, "/")
	})
}

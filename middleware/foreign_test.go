package middleware_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/fanfare-go/fanfare/middleware"
)

// Nothing foreign passes.
func TestOrigins(t *testing.T) {
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

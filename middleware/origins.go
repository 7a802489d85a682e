package middleware

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/origin"
	"github.com/fanfare-go/fanfare/internal/ratelog"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Origins refuses pages of other origins. A browser sends its user's cookies with an
// EventSource and with the handshake of a WebSocket, whichever page opens it, and sends
// no preflight request first. http.CrossOriginProtection does not refuse them, since
// they are GET requests.
//
// The zero Origins lets pages of the request's own host pass, and requests that come
// from no browser: those without an Origin header that do not come from another origin
// according to Sec-Fetch-Site. That is also what ws.Options.CheckOrigin does by
// default. The fields are set before the first use.
type Origins struct {
	// Allow lists the other origins whose pages may connect. Each is a scheme and a
	// host, with a port unless that is the scheme's default. A host that begins with
	// "*." stands for all its subdomains, at any depth, but not for the domain itself:
	//
	//	https://example.com
	//	https://*.example.com
	//	http://localhost:3000
	//
	// International names are written as browsers send them, in ASCII
	// ("https://xn--bcher-kva.example"). If an entry is not an origin, all requests are
	// refused with an error that names it.
	Allow []string

	// Logger gets refusals (Info). If nil, slog.Default().
	Logger *slog.Logger
}

// Check returns an error if the request comes from a page that may not connect. It can
// be used as ws.Options.CheckOrigin.
func (o *Origins) Check(r *http.Request) error {
	_, err := o.check(r)
	return err
}

// check also reports whether the request comes from a page that Allow lists.
func (o *Origins) check(r *http.Request) (listed bool, err error) {
	for i, pattern := range o.Allow {
		if err := validPattern(pattern); err != nil {
			return false, fmt.Errorf("middleware: Origins.Allow[%d] is %q: %w", i, pattern, err)
		}
	}
	page, err := origin.Of(r)
	if err != nil {
		return false, fmt.Errorf("middleware: %w; Origins.Allow can only list a scheme and a host", err)
	}
	// First: a listed page of the same host over another scheme needs CORS headers.
	for _, pattern := range o.Allow {
		if matches(pattern, page) {
			return true, nil
		}
	}
	if err := page.CheckHost(r); err != nil {
		return false, fmt.Errorf("middleware: %w; allow the origin in Origins.Allow", err)
	}
	return false, nil
}

// cutWildcard returns a pattern without "*.", and reports whether it had that.
func cutWildcard(pattern string) (rest string, found bool) {
	scheme, host, found := strings.Cut(pattern, "://*.")
	if !found {
		return pattern, false
	}
	return scheme + "://" + host, true
}

func validPattern(pattern string) error {
	for _, c := range pattern {
		if c > 0x7e || c <= ' ' {
			return errors.New("an origin is written in ASCII, without spaces")
		}
	}
	rest, _ := cutWildcard(pattern)
	if _, ok := origin.Parse(rest); !ok || strings.Contains(rest, "*") {
		return errors.New(`an origin is written as "https://example.com" or "https://*.example.com"`)
	}
	return nil
}

// matches reports whether a page is one of those that a valid pattern stands for.
func matches(pattern string, page origin.Origin) bool {
	rest, wildcard := cutWildcard(pattern)
	listed, _ := origin.Parse(rest)
	if wildcard {
		return page.Scheme == listed.Scheme && strings.HasSuffix(page.Host, "."+listed.Host)
	}
	return page == listed
}

// Handler refuses with 403 what Check refuses. To pages that Allow lists it sends the
// headers of CORS (WHATWG Fetch section 3.3), so that they may send cookies and the
// headers that a fetch-based client of event streams needs; it also answers their
// preflight requests. A ws.Handler or ws.Upgrade below it does not check the origin
// again, unless it has a CheckOrigin of its own.
//
// It goes outside of Drain and Limit, so that a request that it refuses does not count
// there.
func (o *Origins) Handler(next http.Handler) http.Handler {
	var log ratelog.Log // here, so that the configuration may be copied
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		listed, err := o.check(r)
		w.Header().Add("Vary", "Origin")
		if err != nil {
			refuse(w, r, &log, o.Logger, &fanfare.Refusal{Status: http.StatusForbidden, Err: err})
			return
		}
		if listed {
			allowPage(w.Header(), r.Header.Get("Origin"))
			if isPreflight(r) {
				allowRequest(w.Header())
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		next.ServeHTTP(w, r.WithContext(streamctx.WithOriginPassed(r.Context())))
	})
}

// allowPage lets a page of the origin read the response.
func allowPage(header http.Header, origin string) {
	header.Set("Access-Control-Allow-Origin", origin)
	header.Set("Access-Control-Allow-Credentials", "true")
	header.Set("Access-Control-Expose-Headers", "Retry-After")
}

// allowRequest answers a preflight request: the page may make the request that follows.
func allowRequest(header http.Header) {
	header.Set("Access-Control-Allow-Methods", "GET, HEAD, POST")
	header.Set("Access-Control-Allow-Headers", "Authorization, Cache-Control, Content-Type, Last-Event-ID")
	header.Set("Access-Control-Max-Age", "600")
	header.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
}

// isPreflight reports whether a browser asks if a page may make a request (WHATWG
// Fetch section 3.3.2).
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

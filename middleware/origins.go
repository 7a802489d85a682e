package middleware

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Origins keeps the pages of foreign origins out. A browser sends its user's cookies
// with an EventSource and with a WebSocket's handshake, whichever page opens it, and
// lets both through without asking: http.CrossOriginProtection passes them too, for
// they are GETs.
//
// The zero Origins allows pages of the same host, and what is no browser: whoever
// sends neither an Origin nor a Sec-Fetch-Site that is foreign. It is set before its
// first use.
type Origins struct {
	// Allow are the origins that may connect besides: a scheme and a host, with a
	// port where it is not the scheme's own. A host that begins with "*." stands for
	// all hosts below it, at any depth, but not for the domain itself:
	//
	//	https://example.com
	//	https://*.example.com
	//	http://localhost:3000
	//
	// International names are written as browsers send them, in ASCII
	// ("https://xn--bcher-kva.example").
	Allow []string

	// Logger gets refusals (Info). If nil, slog.Default().
	Logger *slog.Logger
}

// Check returns an error if the request comes from a page that may not connect. It
// fits ws.Options.CheckOrigin. An entry of Allow that is no origin is an error for
// every request.
func (o *Origins) Check(r *http.Request) error {
	_, err := o.check(r)
	return err
}

// check also returns the origin if it is an allowed foreign one.
func (o *Origins) check(r *http.Request) (foreign string, err error) {
	for i, pattern := range o.Allow {
		if err := validPattern(pattern); err != nil {
			return "", fmt.Errorf("middleware: Origins.Allow[%d] %q: %w", i, pattern, err)
		}
	}
	values := r.Header.Values("Origin")
	switch len(values) {
	case 0:
		switch site := r.Header.Get("Sec-Fetch-Site"); site {
		case "cross-site", "same-site":
			return "", fmt.Errorf("middleware: a page of a foreign site without an Origin (Sec-Fetch-Site: %s)", site)
		}
		return "", nil // no browser, or an EventSource of the same origin
	case 1:
	default:
		return "", errors.New("middleware: several Origin headers")
	}
	scheme, host, ok := splitOrigin(values[0])
	if !ok {
		return "", fmt.Errorf("middleware: the Origin %.100q", values[0]) // null, or nonsense
	}
	for _, pattern := range o.Allow { // first: of the same host over another scheme a browser wants CORS, too
		if matches(pattern, scheme, host) {
			return values[0], nil
		}
	}
	if host == withoutPort(scheme, strings.ToLower(r.Host)) {
		return "", nil
	}
	return "", fmt.Errorf("middleware: the Origin %.100q, while the host is %.100q: allow it in Origins.Allow", values[0], r.Host)
}

// splitOrigin takes an origin apart as RFC 6454 section 6.2 writes it, and leaves out
// a port that is the scheme's own.
func splitOrigin(origin string) (scheme, host string, ok bool) {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.ForceQuery {
		return "", "", false
	}
	return u.Scheme, withoutPort(u.Scheme, strings.ToLower(u.Host)), true
}

func withoutPort(scheme, host string) string {
	if port, ok := map[string]string{"http": ":80", "https": ":443"}[scheme]; ok {
		return strings.TrimSuffix(host, port)
	}
	return host
}

func validPattern(pattern string) error {
	plain := strings.Replace(pattern, "://*.", "://", 1)
	for _, c := range plain {
		if c > 0x7e || c <= ' ' {
			return errors.New("an origin is written in ASCII")
		}
	}
	if _, _, ok := splitOrigin(plain); !ok || strings.Contains(plain, "*") {
		return errors.New(`not an origin such as "https://example.com" or "https://*.example.com"`)
	}
	return nil
}

func matches(pattern, scheme, host string) bool {
	below := strings.Contains(pattern, "://*.")
	patternScheme, patternHost, _ := splitOrigin(strings.Replace(pattern, "://*.", "://", 1))
	if scheme != patternScheme {
		return false
	}
	if below {
		return strings.HasSuffix(host, "."+patternHost)
	}
	return host == patternHost
}

// Handler refuses what Check refuses, with 403, and answers the pages of allowed
// foreign origins with the headers of CORS: they may send cookies, and the headers
// that a fetch-based client of event streams needs. It answers their preflight
// requests as well. A ws.Handler or ws.Upgrade below accepts whom it has passed.
//
// It goes outside of Drain and Limit, so that what it refuses takes no place there.
func (o *Origins) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		foreign, err := o.check(r)
		header := w.Header()
		header.Add("Vary", "Origin")
		if err != nil {
			refuse(w, r, o.Logger, &fanfare.Refusal{Status: http.StatusForbidden, Err: err})
			return
		}
		if foreign != "" {
			header.Set("Access-Control-Allow-Origin", foreign)
			header.Set("Access-Control-Allow-Credentials", "true")
			header.Set("Access-Control-Expose-Headers", "Retry-After")
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				header.Set("Access-Control-Allow-Methods", "GET, HEAD, POST")
				header.Set("Access-Control-Allow-Headers", "Authorization, Cache-Control, Content-Type, Last-Event-ID")
				header.Set("Access-Control-Max-Age", "600")
				header.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		next.ServeHTTP(w, r.WithContext(streamctx.WithOriginPassed(r.Context())))
	})
}

// isPreflight reports whether a browser asks if a page may make a request (WHATWG
// Fetch section 3.3.2).
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

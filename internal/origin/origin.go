// Package origin decides whether a request comes from a page of the server's own
// host. A browser sends its user's cookies with an EventSource and with the handshake
// of a WebSocket, whichever page opens it (RFC 6455 section 10.2), so that a stream
// has to know which page that was.
package origin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Origin is where a page comes from (RFC 6454). The zero Origin stands for no page.
type Origin struct {
	Scheme string // in lower case
	Host   string // in lower case, with a port unless that is the scheme's default
}

// Parse parses an origin as RFC 6454 section 6.2 writes it: a scheme, "://", a host
// and perhaps a port. It reports false for anything else, such as null.
func Parse(text string) (o Origin, ok bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || strings.HasSuffix(u.Host, ":") || !isASCII(text) {
		return Origin{}, false
	}
	if text[len(u.Scheme):] != "://"+u.Host {
		return Origin{}, false // a user, a path, a query, a fragment or an escape
	}
	return Origin{u.Scheme, withoutPort(u.Scheme, u.Host)}, true
}

// withoutPort returns a host in lower case, without the default port of the scheme.
func withoutPort(scheme, host string) string {
	host = strings.ToLower(host)
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c > 0x7e })
}

// Of returns the origin of the page that a request comes from. It is the zero Origin
// for a request without an Origin header, if it does not come from a page of another
// origin according to Sec-Fetch-Site: it comes from a page of the same origin, or from
// no browser. An error means that it comes from another origin, which is not known.
func Of(r *http.Request) (Origin, error) {
	switch values := r.Header.Values("Origin"); len(values) {
	case 0:
		return Origin{}, checkSite(r)
	case 1:
		o, ok := Parse(values[0])
		if !ok { // such as null, which a sandboxed frame sends
			return Origin{}, fmt.Errorf("the Origin header is %.100q, not a scheme and a host", values[0])
		}
		return o, nil
	}
	return Origin{}, errors.New("the request has several Origin headers")
}

// checkSite returns an error if a browser says that a request without an Origin header
// comes from a page of another origin (Fetch Metadata, section 2.3). Values that this
// package does not know count as such.
func checkSite(r *http.Request) error {
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		switch site {
		case "", "same-origin", "none": // none: the user has typed the address
		default:
			return fmt.Errorf("the request comes from a page of another origin (Sec-Fetch-Site: %.100s) and has no Origin header", site)
		}
	}
	return nil
}

// CheckHost returns an error unless a page of this origin is one of the request's own
// host, or there is no page. The scheme does not count: TLS may end at a proxy.
func (o Origin) CheckHost(r *http.Request) error {
	if o == (Origin{}) || o.Host == withoutPort(o.Scheme, r.Host) {
		return nil
	}
	return fmt.Errorf("the page's origin is %.100q, and the host of the request is %.100q", o.Scheme+"://"+o.Host, r.Host)
}

// Check returns an error if a request comes from a page of another host.
func Check(r *http.Request) error {
	o, err := Of(r)
	if err != nil {
		return err
	}
	return o.CheckHost(r)
}

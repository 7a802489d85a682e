package ws

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare/internal/origin"
	"github.com/fanfare-go/fanfare/internal/streamctx"
	"github.com/fanfare-go/fanfare/internal/tcp"
	"github.com/fanfare-go/fanfare/internal/wrappers"
)

// ErrCannotHijack is why a request cannot be upgraded if neither the
// http.ResponseWriter nor what it wraps (by Unwrap) is an http.Hijacker.
var ErrCannotHijack = errors.New("ws: the http.ResponseWriter cannot be hijacked")

// errProbed is what Upgrade returns for a request of wstest.Diagnose.
var errProbed = errors.New("ws: the request was a probe, which has been answered")

// HandshakeError is why a handshake failed. [Upgrade] returns it for a request that it
// has refused, [Dial] for a response that is not an upgrade.
type HandshakeError struct {
	Status     int           // of the HTTP response
	Err        error         // the reason; the response does not contain it
	RetryAfter time.Duration // Dial: what the server's Retry-After asks for, a day at most; 0: nothing
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("ws: handshake: %v (status %d)", e.Err, e.Status)
}

// Unwrap returns the reason.
func (e *HandshakeError) Unwrap() error { return e.Err }

// Upgrade upgrades a request to a WebSocket (RFC 6455 section 4.2). If opts is nil, it
// uses the zero Options. The error is a [*HandshakeError]; the request has been answered
// then, with its Status.
//
// The caller closes the Conn. It is closed with 1001 when the request's context ends,
// which net/http does when the handler returns. Below a middleware.Bypass the context
// does not end before the Conn does: there it must be closed explicitly.
func Upgrade(w http.ResponseWriter, r *http.Request, opts *Options) (*Conn, error) {
	if streamctx.Probed(w, r, nil) {
		return nil, errProbed
	}
	var options Options
	if opts != nil {
		options = *opts
	}
	options = options.withDefaults()
	claim := streamctx.ClaimOf(w, r)
	begun := false
	defer func() {
		if !begun { // also after a panic in CheckOrigin, or in a wrapper's Hijack or WriteHeader
			claim.Leave()
		}
	}()
	if err := check(w, claim.Writer, r, options); err != nil {
		answer(w, err)
		return nil, err
	}
	err := claim.Take()
	if err != nil {
		return nil, &HandshakeError{Status: http.StatusServiceUnavailable, Err: err}
	}
	claim.Announce(http.StatusSwitchingProtocols, nil, nil)
	c, err := accept(claim.Context, claim.Writer, r, new(tcp.Buffers), new(deflater), &options)
	if err != nil {
		return nil, err
	}
	begun = true
	c.start(options.MaxAge)
	stop := context.AfterFunc(claim.Context, func() { _ = c.Close(StatusGoingAway, "going away") })
	detach := streamctx.Attach(claim.Context, func(how streamctx.End) { go c.end(how) }).Detach
	context.AfterFunc(c.ctx, func() {
		stop()
		detach()
		claim.Leave()
	})
	return c, nil
}

// end ends the connection for a middleware.
func (c *Conn) end(how streamctx.End) {
	switch {
	case how.Cut:
		c.cut(net.ErrClosed)
	case how.Code != 0:
		_ = c.Close(StatusCode(how.Code), how.Reason)
	default:
		_ = c.Close(StatusServiceRestart, "service restart")
	}
}

// check reports whether a request can be upgraded and under, or what it wraps, can be
// hijacked. It sends nothing. It sets the header of a refusal on w: also if it returns
// no error, for the refusals that may follow.
func check(w, under http.ResponseWriter, r *http.Request, o Options) error {
	header := w.Header()
	if r.ProtoMajor == 1 {
		// A client or a proxy that takes the connection for upgraded goes on with frames,
		// which must not be parsed as a request. The handshake replaces the value.
		header.Set("Connection", "close")
	}
	refuse := func(status int, format string, args ...any) error {
		return &HandshakeError{Status: status, Err: fmt.Errorf(format, args...)}
	}
	switch keys := r.Header.Values("Sec-Websocket-Key"); {
	case r.Method != http.MethodGet && (r.Method != http.MethodConnect || r.ProtoMajor < 2):
		header.Set("Allow", http.MethodGet)
		return refuse(http.StatusMethodNotAllowed, "the method is %s, not GET", r.Method)
	case r.ProtoMajor > 1:
		return refuse(http.StatusNotImplemented, "WebSockets over %s are not supported", r.Proto)
	case !r.ProtoAtLeast(1, 1) || !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket"):
		header.Add("Connection", "Upgrade") // beside close, which net/http only knows alone
		header.Set("Upgrade", "websocket")
		return refuse(http.StatusUpgradeRequired, "the request does not ask for an upgrade to websocket")
	case r.ContentLength != 0:
		return refuse(http.StatusBadRequest, "the request has a body")
	case !slices.Equal(r.Header.Values("Sec-Websocket-Version"), []string{"13"}):
		header.Add("Connection", "Upgrade") // beside close, which net/http only knows alone
		header.Set("Upgrade", "websocket")
		header.Set("Sec-Websocket-Version", "13")
		return refuse(http.StatusUpgradeRequired, "version %.20q of the protocol, not 13", r.Header.Get("Sec-Websocket-Version"))
	case len(keys) != 1 || !validKey(keys[0]):
		return refuse(http.StatusBadRequest, "Sec-WebSocket-Key is not 16 bytes in base64, once")
	}
	if err := checkOrigin(r, o); err != nil {
		return refuse(http.StatusForbidden, "%w", err)
	}
	if _, last, ok := wrappers.Find[http.Hijacker](under); !ok {
		return refuse(http.StatusInternalServerError, "%w: %T has no Hijack or Unwrap; %s", ErrCannotHijack, last, wrappers.Remedy)
	}
	return nil
}

func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key) // net/http has trimmed it
	return err == nil && len(b) == 16
}

// hasToken reports whether a header lists a token, in any case (RFC 9110 section
// 5.6.1).
func hasToken(header http.Header, name, token string) bool {
	for _, value := range header.Values(name) {
		for t := range strings.SplitSeq(value, ",") {
			// EqualFold folds U+212A (KELVIN SIGN) to k; comparing lengths excludes it.
			if t = textproto.TrimString(t); len(t) == len(token) && strings.EqualFold(t, token) {
				return true
			}
		}
	}
	return false
}

// offered returns those of the subprotocols that a client offers. The library chooses
// the first.
func offered(header http.Header, ours []string) (both []string) {
	for _, protocol := range ours {
		if hasToken(header, "Sec-Websocket-Protocol", protocol) {
			both = append(both, protocol)
		}
	}
	return both
}

// checkOrigin refuses pages of other origins (RFC 6455 section 10.2): a browser sends
// its user's cookies whichever page opens the connection.
func checkOrigin(r *http.Request, o Options) error {
	if o.CheckOrigin != nil {
		return o.CheckOrigin(r)
	}
	if streamctx.OriginPassed(r.Context()) {
		return nil
	}
	if err := origin.Check(r); err != nil {
		return fmt.Errorf("%w; allow it with Options.CheckOrigin or middleware.Origins", err)
	}
	return nil
}

// answer answers a request that is refused, with the status and its text alone.
func answer(w http.ResponseWriter, err error) {
	status := statusOf(err)
	http.Error(w, http.StatusText(status), status)
}

// statusOf returns the status of the [HandshakeError] in err.
func statusOf(err error) int {
	if e, ok := errors.AsType[*HandshakeError](err); ok {
		return e.Status
	}
	return http.StatusInternalServerError
}

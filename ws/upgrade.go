package ws

import (
	"bufio"
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

	"github.com/coder/websocket"

	"github.com/fanfare-go/fanfare/internal/origin"
	"github.com/fanfare-go/fanfare/internal/streamctx"
	"github.com/fanfare-go/fanfare/internal/tcp"
	"github.com/fanfare-go/fanfare/internal/wrappers"
)

// ErrCannotHijack says that a request cannot be upgraded because no Hijack can be
// reached through the http.ResponseWriter.
var ErrCannotHijack = errors.New("ws: the http.ResponseWriter cannot be hijacked")

// errProbed is what a handler gets whose request wstest.Diagnose has made.
var errProbed = errors.New("ws: the request was a probe, which has been answered")

// HandshakeError is why no WebSocket came about: with the HTTP status that the
// client was answered with, or that the server answered with.
type HandshakeError struct {
	Status     int           // of the HTTP response
	Err        error         // the reason, which the client is not told
	RetryAfter time.Duration // what the server asks a client for; 0: nothing
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("ws: handshake: %v (status %d)", e.Err, e.Status)
}

// Unwrap returns the reason.
func (e *HandshakeError) Unwrap() error { return e.Err }

// Upgrade makes a WebSocket of a request. On an error (a [*HandshakeError]) it
// has answered the client; nothing is left to be done.
//
// If opts is nil, the defaults stand. The connection's life is the request's: it
// is closed with 1001 when the request's context ends, which net/http does when
// the handler returns. Below a middleware.Bypass that waits for the connection
// instead: close it.
func Upgrade(w http.ResponseWriter, r *http.Request, opts *Options) (*Conn, error) {
	if streamctx.Probed(w, r) {
		return nil, errProbed
	}
	var options Options
	if opts != nil {
		options = *opts
	}
	options = options.withDefaults()
	claim := streamctx.ClaimOf(w, r)
	if err := check(w, claim.Writer, r, options); err != nil {
		claim.Leave()
		answer(w, err)
		return nil, err
	}
	err := claim.Take()
	if err != nil {
		claim.Leave()
		return nil, &HandshakeError{Status: http.StatusServiceUnavailable, Err: err}
	}
	c, err := accept(claim.Context, claim.Writer, r, new(tcp.Buffers), options)
	if err != nil {
		claim.Leave()
		return nil, err
	}
	c.alone(options.MaxAge)
	stop := context.AfterFunc(claim.Context, func() { _ = c.Close(StatusGoingAway, "going away") })
	detach := streamctx.Attach(claim.Context, func(how streamctx.End) { go c.end(how) })
	context.AfterFunc(c.ctx, func() {
		stop()
		detach()
		claim.Leave()
	})
	return c, nil
}

// end ends the connection as a middleware wants.
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

// check finds out whether a request can be upgraded, and the connection reached
// through under. It sends nothing; w gets the header of a refusal.
func check(w, under http.ResponseWriter, r *http.Request, o Options) error {
	header := w.Header()
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
		header.Set("Connection", "Upgrade")
		header.Set("Upgrade", "websocket")
		return refuse(http.StatusUpgradeRequired, "the request does not ask for an upgrade to websocket")
	case r.ContentLength != 0:
		header.Set("Connection", "close") // else the answer waits for the body, as long as that takes
		return refuse(http.StatusBadRequest, "the request has a body")
	case !slices.Equal(r.Header.Values("Sec-Websocket-Version"), []string{"13"}):
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

// hasToken reports whether a header lists a token (RFC 9110 section 5.6.1).
func hasToken(header http.Header, name, token string) bool {
	for _, value := range header.Values(name) {
		for t := range strings.SplitSeq(value, ",") {
			// Only ASCII: else the sign of kelvins would be a K, and as long as three.
			if t = textproto.TrimString(t); len(t) == len(token) && strings.EqualFold(t, token) {
				return true
			}
		}
	}
	return false
}

// offered returns those subprotocols that a client offers; the library takes the first.
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

// answer tells the client why its request is not upgraded, in the status alone.
func answer(w http.ResponseWriter, err error) {
	status := statusOf(err)
	http.Error(w, http.StatusText(status), status)
}

func statusOf(err error) int {
	if e, ok := errors.AsType[*HandshakeError](err); ok {
		return e.Status
	}
	return http.StatusInternalServerError
}

// accept does the handshake of a request that was checked, and takes the
// connection over. ctx is what the connection's context comes from. On an error
// the client has been answered.
func accept(ctx context.Context, w http.ResponseWriter, r *http.Request, buffers *tcp.Buffers, o Options) (*Conn, error) {
	s := new(socket) // what the connection holds on to is this, and not the handshake
	h := &handshake{ResponseWriter: w, socket: s, buffers: buffers, timeout: o.WriteTimeout}
	if o.Compression {
		r = withOffer(r)
	}
	library, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols:       offered(r.Header, o.Subprotocols),
		InsecureSkipVerify: true, // the origin was checked
		CompressionMode:    o.mode(),
		OnPingReceived: func(_ context.Context, payload []byte) bool {
			s.answer(payload)
			return false
		},
	})
	if err != nil {
		return nil, &HandshakeError{Status: http.StatusInternalServerError, Err: err}
	}
	s.deflates = deflates(h.Header())
	return newConn(ctx, library, s, o), nil
}

// handshake is the http.ResponseWriter that the library hijacks: it puts the
// socket between the two, which has the buffers.
type handshake struct {
	http.ResponseWriter
	socket  *socket // that is to stand on the connection
	buffers *tcp.Buffers
	timeout time.Duration
}

func (h *handshake) WriteHeader(status int) {
	h.ResponseWriter.WriteHeader(status)
	// Gin's writer only notes the status, and would send it after the hijacking.
	if gin, ok := h.ResponseWriter.(interface{ WriteHeaderNow() }); ok {
		gin.WriteHeaderNow()
	}
}

// Hijack takes the connection from the server.
func (h *handshake) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_ = c.SetDeadline(time.Time{})
	var already []byte
	if n := buffered.Reader.Buffered(); n > 0 {
		b, _ := buffered.Reader.Peek(n)
		already = append(already, b...)
	}
	h.socket.stand(c, already, h.buffers, h.timeout)
	// The library's own are as small as they can be: frames are read past them, and
	// what it writes are control frames, which the socket puts together.
	return h.socket, bufio.NewReadWriter(bufio.NewReaderSize(h.socket, h.socket.reader.Least()), bufio.NewWriterSize(h.socket, 16)), nil
}

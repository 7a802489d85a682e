package middleware

import (
	"net/http"

	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Bypass lets the streams of next write to the ResponseWriter that Bypass itself was
// called with, whatever stands in between: wrappers without Unwrap,
// http.TimeoutHandler and other timeouts, compression. Mount it outside of all these.
// A logger goes outside of Bypass if its wrapper has Unwrap. Inside it logs a stream
// without its status and bytes, or with those of a timeout.
//
// When a stream begins, its response gets the header that the wrappers and the stream's
// own handler have set so far. From then on only the stream writes, and what comes
// through the wrappers is dropped, such as the late answer of a timeout. A stream is
// therefore not compressed, not measured by a logger in between, and without the
// headers that a wrapper sets in its WriteHeader (some session cookies). It has the
// values of the request's context, but a timeout in between does not end it. It ends
// when the client leaves, with the server, by a Drain or a Disconnect, and when its
// Grant expires.
//
// Requests that do not become streams pass as if Bypass were not there.
//
// Bypass returns when next has returned and its streams have ended. It cannot see
// whether a handler has forgotten an sse.Writer or a Conn of ws.Upgrade: close them
// before the handler returns.
func Bypass(next http.Handler) http.Handler { return streamctx.Bypass(next) }

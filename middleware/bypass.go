package middleware

import (
	"net/http"

	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Bypass lets the streams of next write to the ResponseWriter that Bypass itself was
// called with, whatever stands in between: wrappers without Unwrap,
// http.TimeoutHandler and other timeouts, compression. Mount it outside of all these.
// A logger goes outside of Bypass if its wrapper has Unwrap. Inside it logs a stream
// without its bytes.
//
// When a stream begins, its response gets the header that the wrappers and the stream's
// own handler have set so far, without what describes the content of the layers that it
// goes past: Content-Encoding, ETag, Trailer and such. The wrappers are told that the
// response has begun: their WriteHeader is called with the stream's status (200, or 101
// for a WebSocket), and the first bytes of a body are written, so that middleware that
// saves a session at this point, else after the handler, does so now. What they then add
// to the header, such as a session's cookie, is sent with the stream. A wrapper that
// panics, or takes longer than a second, is logged, and the stream begins without it.
//
// From then on only the stream writes, and what comes through the wrappers is dropped,
// such as the late answer of a timeout. A stream is therefore not compressed, and a
// logger in between sees its status and duration, but not its bytes. It has the values of
// the request's context, but a timeout in between does not end it. It ends when the
// client leaves, with the server, by a Drain or a Disconnect, and when its Grant expires.
//
// Requests that do not become streams pass as if Bypass were not there.
//
// Bypass returns when next has returned and its streams have ended. It cannot see
// whether a handler has forgotten an sse.Writer or a Conn of ws.Upgrade: close them
// before the handler returns.
func Bypass(next http.Handler) http.Handler { return streamctx.Bypass(next) }

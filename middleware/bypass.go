package middleware

import (
	"net/http"

	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Bypass lets the streams below it reach the ResponseWriter and the context that it has
// itself, whatever stands in between: wrappers without Unwrap, http.TimeoutHandler,
// timeouts and compression. It goes outside of all of that, and inside of a logger whose
// wrapper has Unwrap: one that is inside of Bypass logs a stream without its status and
// bytes, or with those of a timeout.
//
// A stream that begins takes the header that has been set so far, by those in between
// and by its own handler, and the connection. From then on it is alone: whatever
// comes through the wrappers, such as the late answer of a timeout, is dropped. So the
// stream bypasses what they would do to it: compression, a logger's status and number
// of bytes, headers that are set when a wrapper's WriteHeader is called (some session
// cookies). It has the values of the request's context, but not its end: of what ends
// a stream there remain the client, the server, a drain, a Disconnect, and the Expires
// of its Grant.
//
// Requests that do not become streams pass as if Bypass were not there. Bypass returns
// when both the handlers below and the stream have ended: an sse.Writer and a Conn of
// ws.Upgrade have to be closed, for that their handler has returned does not show here.
func Bypass(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if streamctx.Bypassed(r.Context()) {
			next.ServeHTTP(w, r) // mounted twice: the first one leads further
			return
		}
		d, r := streamctx.NewBypass(w, r)
		aborted := true
		defer func() { d.Close(aborted) }()
		next.ServeHTTP(d.Writer(), r)
		aborted = false
	})
}

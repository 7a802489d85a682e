package delivery

import (
	"context"
	"net/http"
	"time"
)

// Transport is what a handler does with one request where SSE and WebSocket differ.
type Transport interface {
	// Check says how the request is served, or returns the error that refuses it: a
	// *fanfare.Refusal with its status, any other with 500. It writes
	// nothing, but may set headers of a refusal on w. target is the ResponseWriter that
	// the stream will write to.
	Check(w, target http.ResponseWriter, r *http.Request) (Mode, error)

	// Begin answers the request and starts the stream, with the methods of o. Where it
	// has sent nothing it may return an error, which refuses the request. It may return
	// without starting the stream.
	Begin(target http.ResponseWriter, r *http.Request, o *Opening) error
}

// Mode is how a request is served.
type Mode struct {
	Codec    *Codec
	Detached bool // the stream outlives the request

	// RefuseEnded refuses a client with 204 that comes back to where nothing follows, because
	// all its topics have ended.
	RefuseEnded bool

	Status int               // of the response: 200 or 101
	Header func(http.Header) // sets the fields that the transport sets; nil: none

	// Heartbeat is after which time without a write the stream sends its position or a
	// heartbeat; 0: never. The Ready notice says so to the client.
	Heartbeat time.Duration

	// Close answers a client that asks for a close frame in place of a status that it could
	// not see: it accepts the request and ends the stream at once, for why. It returns when
	// the connection has ended. After an error the request has been answered, too. nil: the
	// client has not asked.
	Close func(ctx context.Context, target http.ResponseWriter, r *http.Request, why Reason) error

	// Unwatched says that nothing reads from the connection, so that only a write finds
	// out that the client has left: the first heartbeats come sooner, unless a Watch
	// finds out (see [Unread]).
	Unwatched bool
}

package sse

import (
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// Handler is an http.Handler that streams the messages of a Broadcaster as
// Server-Sent Events. A client that comes back with its last event ID resumes after
// it, or gets a gap event. The package documentation shows the wire.
//
// It answers GET, and HEAD with the header alone. A stream ends with its client, when
// its Grant expires, after Options.MaxAge, when the Broadcaster is closed, and when
// the http.Server that it came in through begins to shut down; in the last three cases
// the client first gets everything that is in the log by then. It also ends when all its
// topics have (broadcast.Message.End): a client that comes back then is answered with 204,
// which stops an EventSource. Server.Shutdown does not
// wait for a detached stream; middleware.Drain does.
//
// The fields are set before the first request. A Handler must not be copied after
// that.
type Handler struct {
	// Broadcaster is where the messages come from. Other handlers may share it. It is
	// required: without it each request is refused with 500.
	Broadcaster broadcast.Broadcaster

	// Topics are the topics of every client, if Grant is nil.
	Topics []string

	// Grant returns what a client gets. It is called each time the client connects,
	// also when it resumes. The request and the values of its context are valid only
	// until Grant returns, since routers use them again. The context itself ends when
	// the stream has ended, so that a client leaves a room with
	//
	//	context.AfterFunc(r.Context(), leave)
	//
	// An error refuses the client: a *fanfare.Refusal with its status, any other error
	// with 500.
	Grant func(*http.Request) (*fanfare.Grant, error)

	// Encode makes the event of a message. False drops the message for all clients.
	// Encode must depend on its argument alone: it is called once for each wire form of
	// a message (with an ID and without, plain and in an envelope), not for each stream,
	// and again each time an old message is replayed. The handler sets ID and Retry: what
	// Encode sets there is ignored. If nil, the event has the message's Type and Data.
	Encode func(*broadcast.Message) (Event, bool)

	// Notice makes the event of a notice, for clients with a protocol of their own. False
	// leaves the notice out; a gap that is left out ends the stream, and so does a
	// beginning, unless the client has nothing that it would have to forget. The event fires
	// in a browser, also without data. The handler sets ID and Retry, as for Encode. Clients
	// that ask for envelopes get the notices of the envelope. If nil, the package
	// documentation shows the events.
	Notice func(fanfare.Notice) (Event, bool)

	// ErrorHandler answers each request that gets no stream, whatever the reason: the
	// method (405), Accept (406), the Grant, the Broadcaster. It is not called for a
	// request that has been answered already. The error is a *fanfare.Refusal where it
	// has a status of its own, and stands for 500 otherwise. If nil, fanfare.Refuse
	// answers, with the status alone and never with the text of the error.
	ErrorHandler func(http.ResponseWriter, *http.Request, error)

	// Options are the times of the streams.
	Options Options

	// Detach takes the connection over from net/http and lets ServeHTTP return: while it
	// is idle, the stream has no goroutine and takes less than a KB. It has an effect over
	// HTTP/1.1 and where the connection can be hijacked; other streams stay attached.
	// Without TLS the connection goes on without its net.TCPConn: the one that http.Server's
	// hooks ConnContext and ConnState have seen is closed.
	//
	// It bypasses middleware that acts when the handler returns (loggers, throttles,
	// metrics) or, without a middleware.Bypass, when WriteHeader is called (some session
	// cookies), and compression. The header that is set before the stream begins is sent,
	// but for what describes the content of a layer (Content-Encoding, ETag). A Limit and a Drain of this kit
	// still count the stream.
	//
	// On Linux the stream ends at once when the client leaves, or ends its half of the
	// connection. Elsewhere, and where a wrapper hides the socket, only a write finds out
	// that the client has left, the second heartbeat at the latest. The first heartbeats are
	// then sent 1, 2, 4 and 8 s after a stream has begun, as far as Options.Heartbeat is
	// longer: a page that is reloaded leaves its old stream for a few seconds.
	Detach bool

	// Abort ends each stream by a cut, as [Writer.Abort] does, for clients that come back
	// after a failure and take the end of a response for the end of everything, such as
	// those of Datastar and r3labs/sse. What a client is to get before its stream ends is
	// sent before the cut. A poll (poll=1) still ends in good order, and so does a stream
	// whose topics have all ended (Message.End). Where a wrapper hides the connection, and
	// over HTTP/3, ServeHTTP panics with http.ErrAbortHandler, which servers expect.
	Abort bool

	// CacheBytes is how many bytes of encoded messages the handler keeps, so that a message
	// is encoded once for all streams and not once for each: its newest messages, in all
	// wire forms that open streams have asked for together. The newest form is kept also
	// if it is larger. As many bytes again are kept of the values that streams begin with
	// (Grant.Beginning), however old these are. If zero, 16 MiB. If negative, none are kept.
	CacheBytes int

	// Logger gets refusals (Info), streams that end (Debug), and faults (Error). If nil,
	// slog.Default().
	Logger *slog.Logger

	once             sync.Once       // makes what follows, at the first use
	engine           delivery.Engine // its zero value has counted nothing
	codecs           codecs
	buffers          tcp.Buffers
	warnedOfDeadline atomic.Bool
	warnedOfHidden   atomic.Bool
}

// ServeHTTP answers a request with an event stream, or refuses it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.once.Do(h.setUp)
	h.engine.ServeHTTP(w, r, &transport{Handler: h, options: h.Options.withDefaults(), query: r.URL.Query()})
}

// Stats returns a snapshot of the handler's streams.
func (h *Handler) Stats() fanfare.StreamStats { return h.engine.Stats() }

// Streams returns snapshots of the handler's open streams, at most so many: those with the
// longest lag first, then the oldest. As for the lag in Stats, these are streams that an
// http.Server has accepted.
func (h *Handler) Streams(most int) []fanfare.StreamInfo { return h.engine.Streams(most) }

func (h *Handler) setUp() {
	h.engine.Configure(delivery.Config{
		Name: "sse", Broadcaster: h.Broadcaster, Topics: h.Topics, Grant: h.Grant, ErrorHandler: h.ErrorHandler, Logger: h.Logger,
		CacheBytes: h.CacheBytes,
	})
	h.codecs.setUp(h)
}

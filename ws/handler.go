package ws

import (
	"log/slog"
	"net/http"
	"sync"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// Handler is an http.Handler that streams the messages of a Broadcaster over
// WebSockets. A client that comes back with its last position resumes after it, or
// gets a gap notice. The package documentation shows the wire.
//
// A stream ends with its client, when its Grant expires (3000), after Options.MaxAge,
// when the Broadcaster is closed, and when the http.Server that it came in through
// begins to shut down; in the last three cases the client first gets everything that is
// in the log by then, and the close code is 1012. It also ends, with 1000, when all its
// topics have (broadcast.Message.End). Server.Shutdown does not wait for a
// WebSocket; middleware.Drain does.
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

	// Encode makes the WebSocket message of a message: its type (if zero, Text) and its
	// bytes, which must not change afterwards. False drops the message for all clients.
	// Encode must depend on its argument alone: it is called once for each wire form of
	// a message (with an ID and without, deflated and not), not for each stream, and again
	// each time an old message is replayed. If nil, the WebSocket message is the envelope
	// that the package documentation shows. [Raw] is an Encode.
	Encode func(*broadcast.Message) (MessageType, []byte, bool)

	// Notice makes the WebSocket message of a notice, for clients with a protocol of
	// their own. False leaves the notice out; a gap that is left out closes the stream
	// with 1013, and so does a beginning, unless the client has nothing that it would have
	// to forget. If nil, notices are those of the envelope where Encode is nil; otherwise
	// all are left out.
	Notice func(fanfare.Notice) (MessageType, []byte, bool)

	// Receive is called once, when the connection is open, and returns the function that
	// gets the client's messages. The request is valid as long as in Grant. The function
	// is called for one message after the other, in order and never concurrently; it may
	// keep and publish the bytes. While it runs, up to MaxMessage bytes of later messages
	// are read ahead. The Conn is for answers: the Handler reads and closes it.
	//
	// What came in before a close frame of the client, or before something that is not
	// allowed, is handled first, so that its answers go out before the Handler's close
	// frame: for WriteTimeout at most (10 s if that is off), and for half of it where
	// the stream ends with 1012. The last messages of a client that leaves without a
	// close frame are handled after the Conn's Context has ended; publish them with
	// another context.
	//
	// A request for other topics is never a message for Receive, unless Encode is set and
	// the Grant has no Change: a protocol of its own may use such messages.
	//
	// An error closes the connection: a [*CloseError] with its code and reason, io.EOF
	// with 1000, any other error with 1011. The function is not called again after an error, nor
	// after Close. If Receive is nil, a message from the client closes the connection with 1008.
	Receive func(*http.Request, *Conn) func(MessageType, []byte) error

	// ErrorHandler answers each request that gets no stream, whatever the reason: no
	// handshake (400, 405, 426, 501), its origin (403), the Grant, the Broadcaster. It is
	// not called for a request that has been answered already, nor for one that is refused
	// by a close frame (refusals=close). The error is a *fanfare.Refusal where it has a
	// status of its own, and stands for 500 otherwise. If nil, fanfare.Refuse answers,
	// with the status alone and never with the text of the error.
	ErrorHandler func(http.ResponseWriter, *http.Request, error)

	// Options are the limits and times of each connection.
	Options Options

	// Detach lets ServeHTTP return once the connection is open: net/http and middleware
	// then release what they keep for a request, three quarters of an idle connection's
	// memory. On Linux, without TLS, it has no goroutine either, which is half of the rest.
	// It bypasses middleware that acts when the handler returns (loggers, throttles,
	// metrics). A Limit and a Drain of this kit still count the connection. Without TLS the
	// connection goes on without its net.TCPConn: the one that http.Server's hooks ConnContext
	// and ConnState have seen is closed.
	Detach bool

	// CacheBytes is how many bytes of encoded messages the handler keeps, so that a message
	// is encoded once for all streams and not once for each: its newest messages, in all
	// wire forms that open streams have asked for together. The newest form is kept also
	// if it is larger. As many bytes again are kept of the values that streams begin with
	// (Grant.Beginning), however old these are. If zero, 16 MiB. If negative, none are kept.
	CacheBytes int

	// Logger gets refusals (Info), streams that end (Debug), and faults (Error). If nil,
	// slog.Default().
	Logger *slog.Logger

	once     sync.Once       // makes engine and the codecs, at the first use
	engine   delivery.Engine // its zero value has counted nothing
	plain    delivery.Codec
	deflated delivery.Codec
	deflater deflater
	buffers  tcp.Buffers
}

// Raw is an Encode for clients that want the Data of a message and nothing else. They
// cannot resume. A client that lags more than Hub.Keep messages is closed with 1013. With
// Grant.Beginning a client does not get to know what its beginning lacks.
func Raw(m *broadcast.Message) (MessageType, []byte, bool) {
	if m.Binary {
		return Binary, m.Data, true
	}
	return Text, m.Data, true
}

// ServeHTTP makes a WebSocket of a request and streams over it, or refuses it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.once.Do(h.setUp)
	h.engine.ServeHTTP(w, r, &transport{Handler: h, options: h.Options.withDefaults()})
}

// Stats returns a snapshot of the handler's streams.
func (h *Handler) Stats() fanfare.StreamStats { return h.engine.Stats() }

// Streams returns snapshots of the handler's open streams, at most so many: those with the
// longest lag first, then the oldest. As for the lag in Stats, these are streams that an
// http.Server has accepted.
func (h *Handler) Streams(most int) []fanfare.StreamInfo { return h.engine.Streams(most) }

func (h *Handler) setUp() {
	h.engine.Configure(delivery.Config{
		Name: "ws", Broadcaster: h.Broadcaster, Topics: h.Topics, Grant: h.Grant, ErrorHandler: h.ErrorHandler, Logger: h.Logger,
		CacheBytes: h.CacheBytes,
	})
	h.plain.Message, h.plain.Notice = h.message(appendFrame), h.notice
	h.deflated.Message, h.deflated.Notice = h.message(h.deflater.appendFrame), h.notice
}

package ws

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/streamctx"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

// Handler is an http.Handler that streams the messages of a Broadcaster over
// WebSockets. A client that reconnects with the last ID it saw goes on where it
// was cut, or is told of a gap; the package documentation says how that looks on
// the wire.
//
// Each stream ends with its client, with its Grant (3000), after Options.MaxAge,
// when the Broadcaster is closed, and when the http.Server that it came in through
// begins to shut down: then it first gets what is in the log, and is closed with
// 1012. Server.Shutdown does not wait for that; middleware.Drain does.
//
// The fields are set before the first request. A Handler must not be copied after
// that.
type Handler struct {
	// Broadcaster is where messages come from, and where other handlers may get
	// theirs from too. It is needed.
	Broadcaster broadcast.Broadcaster

	// Topics is what each client gets, if Grant is nil.
	Topics []string

	// Grant decides what a client gets, each time it connects. The request and
	// the values in its context are good only until Grant returns, for routers
	// use them again; the context itself ends when the stream has ended, so that
	//
	//	context.AfterFunc(r.Context(), leave)
	//
	// is how one leaves a room. An error refuses the client: a
	// *fanfare.Refusal with its status, any other with 500.
	Grant func(*http.Request) (*fanfare.Grant, error)

	// Encode makes the WebSocket message of a message: its type (if zero, Text) and
	// its bytes, which must not change afterwards. False drops the message, for
	// everyone. It is called once for each form of a message (with an ID and
	// without), not for each stream, and again for old messages that are
	// replayed; it must depend on its argument alone. If nil, the WebSocket message
	// is the envelope that the package documentation shows. [Raw] is one.
	Encode func(*broadcast.Message) (MessageType, []byte, bool)

	// Notice makes the WebSocket message of what the stream says itself. False leaves
	// the notice out; a gap that is left out closes the stream with 1013. If nil, it
	// is the envelope's with a nil Encode, else every notice is left out.
	Notice func(fanfare.Notice) (MessageType, []byte, bool)

	// Receive is called once, when the connection stands, and returns what gets
	// the client's messages. The request is good as long as in Grant. The
	// function is called for one message after the other, in order and never
	// twice at once; the bytes are its own to keep and to publish. While it runs,
	// the connection is read on, up to MaxMessage bytes ahead. The Conn is for
	// answers; it is the Handler that reads and closes it. What a client says
	// before it leaves is handed over when the Conn's Context has ended: publish
	// it with another.
	//
	// An error closes the connection: a [*CloseError] with its code and reason,
	// io.EOF with 1000, any other with 1011. If Receive is nil, a message from
	// the client closes it with 1008.
	Receive func(*http.Request, *Conn) func(MessageType, []byte) error

	// ErrorHandler answers a request that gets no stream, if it is a WebSocket
	// handshake. If nil, the answer is a Refusal's status and that status' text,
	// else 500, never the error's own words.
	ErrorHandler func(http.ResponseWriter, *http.Request, error)

	// Options are what each connection is allowed.
	Options Options

	// Detach lets ServeHTTP return once the connection stands: an idle connection
	// is then spared what net/http and middleware keep for a request, which is three
	// quarters of it. It bypasses middleware that waits for the handler's end: loggers,
	// throttles, metrics. A Limit and a Drain of this kit go on to count it.
	Detach bool

	// Logger gets refusals (Info), streams that end (Debug) and what goes wrong
	// (Error). If nil, slog.Default().
	Logger *slog.Logger

	state   delivery.State
	once    sync.Once
	codecs  [2]delivery.Codec // by whether messages are deflated
	buffers tcp.Buffers

	deflater deflater
}

// Raw is an Encode for clients that want a message's Data and nothing else. They
// cannot resume, and a client too slow to get everything is closed with 1013:
// Hub.Keep is how far behind it may be.
func Raw(m *broadcast.Message) (MessageType, []byte, bool) {
	if m.Binary {
		return Binary, m.Data, true
	}
	return Text, m.Data, true
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if streamctx.Probed(w, r) {
		return
	}
	claim := streamctx.ClaimOf(w, r)
	defer claim.Leave()
	options := h.Options.withDefaults()
	handler := delivery.Handler{
		Name: "ws", Broadcaster: h.Broadcaster, Topics: h.Topics, Grant: h.Grant,
		ErrorHandler: h.ErrorHandler, Logger: h.logger(), Plain: true, Detach: h.Detach,
	}
	if err := check(w, claim.Writer, r, options); err != nil {
		h.logger().Info("ws: refused a handshake", "path", r.URL.Path, "reason", err)
		status := statusOf(err)
		h.state.CountRefusal(status)
		if status != http.StatusForbidden && status != http.StatusInternalServerError || h.ErrorHandler == nil {
			answer(w, err) // to what is no handshake in the words of RFC 6455
			return
		}
		h.ErrorHandler(w, r, err)
		return
	}
	h.once.Do(h.setUp)
	opened, err := handler.Open(r.WithContext(claim.Context), &h.state, &h.codecs[0])
	if err != nil {
		handler.Refuse(w, r, &h.state, err)
		return
	}
	accepted := false
	defer func() {
		if !accepted { // also after a panic in somebody's Hijack
			opened.Abandon()
		}
	}()
	if err := claim.Take(); err != nil {
		h.logger().Info("ws: a WebSocket came too late", "path", r.URL.Path, "reason", err)
		return
	}
	c, err := accept(opened.Context(), claim.Writer, r, &h.buffers, &h.deflater, options)
	if err != nil {
		h.logger().Error("ws: the handshake failed", "path", r.URL.Path, "error", err)
		return
	}
	accepted = true
	if c.socket.deflates {
		opened.Use(&h.codecs[1])
	}
	in := newInbox(c, opened, h.logger(), options)
	if h.Receive != nil {
		err = guard.Call("Receive", func() error {
			in.receive = h.Receive(r.WithContext(opened.Context()), c)
			return nil
		})
	}
	opened.Start(&streamConn{c}, nil, options.PingInterval, options.MaxAge)
	if err != nil {
		in.fail(err)
	}
	if h.Detach {
		go in.serve()
		return
	}
	in.serve()
}

// Stats returns a snapshot of the handler's streams.
func (h *Handler) Stats() fanfare.StreamStats { return h.state.Stats() }

func (h *Handler) logger() *slog.Logger {
	if h.Logger == nil {
		return slog.Default()
	}
	return h.Logger
}

func (h *Handler) setUp() {
	h.codecs[0].Message = h.message(appendFrame)
	h.codecs[1].Message = h.message(h.deflater.appendFrame)
	for i := range h.codecs {
		h.codecs[i].Name, h.codecs[i].Logger, h.codecs[i].Notice = "ws", h.logger(), h.notice
	}
}

// message makes the wire form of a message with the function that makes frames.
func (h *Handler) message(frame func(b []byte, opcode byte, payload []byte, masked bool) []byte) func(*broadcast.Message, bool) ([]byte, error) {
	return func(m *broadcast.Message, bare bool) ([]byte, error) {
		if h.Encode == nil {
			data, err := delivery.NewEnvelope(m, m.Type, m.Data, m.Binary, bare)
			if err != nil {
				return nil, err
			}
			return frame(nil, opText, data, false), nil
		}
		typ, data, ok := h.Encode(m)
		if !ok {
			return nil, nil
		}
		opcode, err := opcodeOf(typ, data)
		if err != nil {
			return nil, err
		}
		return frame(nil, opcode, data, false), nil
	}
}

func (h *Handler) notice(n fanfare.Notice) []byte {
	switch {
	case h.Notice != nil:
		typ, data, ok := h.Notice(n)
		if !ok {
			return nil
		}
		opcode, err := opcodeOf(typ, data)
		if err != nil {
			h.logger().Error("ws: Handler.Notice", "kind", n.Kind, "error", err)
			return nil
		}
		return appendFrame(nil, opcode, data, false)
	case h.Encode == nil && !n.ID.IsZero():
		return appendFrame(nil, opText, delivery.NoticeEnvelope(n), false)
	}
	return nil
}

// opcodeOf returns the opcode of what Encode or Notice has returned.
func opcodeOf(typ MessageType, data []byte) (byte, error) {
	switch typ {
	case 0, Text:
		if !utf8.Valid(data) {
			return 0, errors.New("a message of type Text is not UTF-8: make it Binary")
		}
		return opText, nil
	case Binary:
		return opBinary, nil
	}
	return 0, fmt.Errorf("the MessageType %d is neither Text nor Binary", typ)
}

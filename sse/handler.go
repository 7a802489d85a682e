package sse

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/streamctx"
	"github.com/fanfare-go/fanfare/internal/tcp"
	"github.com/fanfare-go/fanfare/internal/wrappers"
)

// Handler is an http.Handler that streams the messages of a Broadcaster as
// Server-Sent Events. A client that reconnects goes on where it was cut, or is
// told of a gap; the package documentation says how that looks on the wire.
//
// It answers GET, and HEAD with the header alone. Each stream ends with its
// client, with its Grant, after Options.MaxAge, when the Broadcaster is closed,
// and when the http.Server that it came in through begins to shut down: then it
// first gets what is in the log. Server.Shutdown does not wait for a detached stream;
// middleware.Drain does.
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

	// Encode makes the event of a message; false drops the message, for
	// everyone. It is called once for each form of a message (with an ID and
	// without, plain and in an envelope), not for each stream, and again for old
	// messages that are replayed; it must depend on its argument alone. ID and Retry are the handler's: what
	// Encode sets there is ignored. If nil, the event has the message's Type and
	// Data.
	Encode func(*broadcast.Message) (Event, bool)

	// Notice makes the event of what the stream says itself, for clients with a
	// protocol of their own. False leaves the notice out; a gap that is left out ends
	// the stream. As with Encode, ID and Retry are the handler's. Clients that ask for
	// envelopes get the envelope's notices. If nil, notices are what the package
	// documentation shows.
	Notice func(fanfare.Notice) (Event, bool)

	// ErrorHandler answers a request that gets no stream. If nil, the answer is
	// a Refusal's status and that status' text, else 500, never the error's own
	// words; but a refusal that may pass (429 and 5xx) is told to an EventSource
	// as 200 with a time to reconnect after, since on any other status it gives
	// up for good.
	ErrorHandler func(http.ResponseWriter, *http.Request, error)

	// Options are the times of the streams.
	Options Options

	// Detach gives a stream's connection to the kit, and lets ServeHTTP return: while
	// it is idle, the stream has no goroutine and hardly any memory. It holds for
	// HTTP/1.1, and where the connection can be hijacked; other streams stay attached.
	//
	// It bypasses middleware that waits for the handler's end (loggers, throttles,
	// metrics), that writes headers when WriteHeader is called (some session cookies),
	// and that compresses; the header set before goes out. A Limit and a Drain of this
	// kit go on to count the stream. Nothing reads from the connection: that a client
	// has left, a write finds out, at the latest the second heartbeat.
	Detach bool

	// Logger gets refusals (Info), streams that end (Debug) and what goes wrong
	// (Error). If nil, slog.Default().
	Logger *slog.Logger

	state        delivery.State
	warnDeadline sync.Once
	once         sync.Once
	buffers      tcp.Buffers
	codecs       [2][2]delivery.Codec // by whether it is for envelopes, and in chunks
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		h.misunderstood(w, r, http.StatusMethodNotAllowed, "the method is "+r.Method)
		return
	}
	if !acceptable(r) {
		h.misunderstood(w, r, http.StatusNotAcceptable, "Accept excludes text/event-stream")
		return
	}
	if streamctx.Probed(w, r) {
		return
	}
	claim := streamctx.ClaimOf(w, r)
	defer claim.Leave()
	options := h.Options.withDefaults()
	poll := r.URL.Query().Get("poll") == "1"
	_, _, canHijack := wrappers.Find[http.Hijacker](claim.Writer)
	detach := h.Detach && !poll && r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor >= 1 && canHijack &&
		r.ContentLength == 0 // nobody would read the rest of a body, and closing the connection would reset it
	handler := delivery.Handler{
		Name: "sse", Broadcaster: h.Broadcaster, Topics: h.Topics, Grant: h.Grant,
		ErrorHandler: h.ErrorHandler, Logger: h.logger(), Detach: detach,
	}
	response, err := newResponse(claim.Writer, r, &h.buffers, options)
	if err != nil {
		handler.Refuse(w, r, &h.state, err)
		return
	}
	opened, err := handler.Open(r.WithContext(claim.Context), &h.state, h.codec(r, detach))
	if err != nil {
		handler.Refuse(w, r, &h.state, err)
		return
	}
	started := false
	defer func() {
		if !started { // also after a panic in somebody's WriteHeader
			opened.Abandon()
		}
	}()
	if err := claim.Take(); err != nil {
		h.logger().Info("sse: a stream came too late", "path", r.URL.Path, "reason", err)
		return
	}
	if detach {
		conn, head, err := hijack(claim.Writer, &h.buffers, options)
		if err != nil {
			handler.Refuse(w, r, &h.state, err)
			return
		}
		started = true
		opened.Start(conn, append(head, chunk(prologue(r, options))...), options.Heartbeat, options.MaxAge)
		return
	}
	if err := response.commit(options); err != nil {
		h.warnDeadline.Do(func() {
			h.logger().Warn("sse: the connection's deadlines cannot be reached: http.Server's timeouts will cut streams, "+
				"and a client that does not read is not cut; give the wrapper an Unwrap method",
				"wrapper", fmt.Sprintf("%T", claim.Writer), "error", err)
		})
	}
	if r.Method == http.MethodHead {
		response.End(delivery.Reason{})
		return
	}
	started = true
	if poll {
		opened.Poll(response, prologue(r, options))
		return
	}
	opened.Serve(response, prologue(r, options), options.Heartbeat, options.MaxAge)
}

// Stats returns a snapshot of the handler's streams.
func (h *Handler) Stats() fanfare.StreamStats { return h.state.Stats() }

func (h *Handler) logger() *slog.Logger {
	if h.Logger == nil {
		return slog.Default()
	}
	return h.Logger
}

// misunderstood answers a request for something else than an event stream.
func (h *Handler) misunderstood(w http.ResponseWriter, r *http.Request, status int, reason string) {
	h.logger().Info("sse: refused a stream", "path", r.URL.Path, "status", status, "reason", reason)
	h.state.CountRefusal(status)
	http.Error(w, http.StatusText(status), status)
}

// acceptable reports whether the client's Accept admits an event stream: the
// most specific range that matches decides (RFC 9110 12.5.1).
func acceptable(r *http.Request) bool {
	list := strings.Join(r.Header.Values("Accept"), ",")
	if strings.Trim(list, ", \t") == "" {
		return true
	}
	ranges := map[string]bool{}
	for value := range strings.SplitSeq(list, ",") {
		name, params, err := mime.ParseMediaType(value)
		if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
			continue
		}
		q, err := strconv.ParseFloat(params["q"], 64)
		ranges[name] = err != nil || q > 0
	}
	for _, name := range []string{"text/event-stream", "text/*", "*/*"} {
		if ok, stated := ranges[name]; stated {
			return ok
		}
	}
	return false
}

// prologue is what comes before everything. Its lines join the first block.
func prologue(r *http.Request, o Options) []byte {
	var b []byte
	if r.URL.Query().Get("padding") == "true" {
		b = append(b, ':')
		b = append(b, strings.Repeat(" ", 2048)...)
		b = append(b, '\n')
	}
	if o.Retry > 0 {
		b = fmt.Appendf(b, "retry: %d\n", max(1, o.Retry.Milliseconds()))
	}
	return b
}

// codec returns the one for what the client has asked for.
func (h *Handler) codec(r *http.Request, chunked bool) *delivery.Codec {
	h.once.Do(func() {
		plain, envelopes := &h.codecs[0], &h.codecs[1]
		plain[0].Message, plain[0].Notice = h.message, h.notice
		envelopes[0].Message, envelopes[0].Notice = h.envelope, noticeEnvelope
		for _, forms := range []*[2]delivery.Codec{plain, envelopes} {
			whole, chunks := &forms[0], &forms[1]
			chunks.Message = func(m *broadcast.Message, bare bool) ([]byte, error) {
				b, err := whole.Message(m, bare)
				return chunk(b), err
			}
			chunks.Notice = func(n fanfare.Notice) []byte { return chunk(whole.Notice(n)) }
			for _, form := range []*delivery.Codec{whole, chunks} {
				form.Name, form.Logger = "sse", h.logger()
			}
		}
	})
	i, j := 0, 0
	if r.URL.Query().Get("envelope") == "1" {
		i = 1
	}
	if chunked {
		j = 1
	}
	return &h.codecs[i][j]
}

// event is what a message says, before it is put on the wire.
func (h *Handler) event(m *broadcast.Message) (e Event, binary, ok bool, err error) {
	if h.Encode == nil {
		e, binary, ok = Event{Type: m.Type, Data: m.Data}, m.Binary, true
	} else {
		e, ok = h.Encode(m)
	}
	switch e.Type {
	case "gap", "open", "error": // which a Snapshot's messages may have as well
		if ok {
			err = fmt.Errorf("sse: the Type %q is reserved for what a stream says itself", e.Type)
		}
	}
	return e, binary, ok, err
}

func (h *Handler) message(m *broadcast.Message, bare bool) ([]byte, error) {
	e, binary, ok, err := h.event(m)
	if err != nil || !ok {
		return nil, err
	}
	if binary {
		e.Data = base64.StdEncoding.AppendEncode(nil, e.Data)
		if e.Type == "" {
			e.Type = "message"
		}
		e.Type += ";base64"
	}
	return block(e.Type, id(m, bare), e.Data)
}

func (h *Handler) envelope(m *broadcast.Message, bare bool) ([]byte, error) {
	e, binary, ok, err := h.event(m)
	if err != nil || !ok {
		return nil, err
	}
	data, err := delivery.NewEnvelope(m, e.Type, e.Data, binary, bare)
	if err != nil {
		return nil, err
	}
	return block("", id(m, bare), data)
}

func id(m *broadcast.Message, bare bool) string {
	if bare {
		return ""
	}
	return m.ID.String()
}

// block is an event that fires, if its data is empty too.
func block(typ, id string, data []byte) ([]byte, error) {
	if data == nil {
		data = []byte{}
	}
	return Event{Type: typ, ID: id, Data: data}.AppendText(nil)
}

// notice makes the event of a notice.
func (h *Handler) notice(n fanfare.Notice) []byte {
	if h.Notice == nil {
		return notice(n)
	}
	e, ok := h.Notice(n)
	if !ok {
		return nil
	}
	b, err := block(e.Type, n.ID.String(), e.Data)
	if err != nil {
		h.logger().Error("sse: Handler.Notice", "kind", n.Kind, "error", err)
	}
	return b
}

// notice sends a gap as an event with data: without data nothing would fire in a
// browser, while its last event ID moved. The other notices have an id alone, which
// moves it and fires nothing.
func notice(n fanfare.Notice) []byte {
	if n.Kind == fanfare.Gap {
		b, _ := block("gap", n.ID.String(), delivery.NoticeEnvelope(n))
		return b
	}
	b, _ := Event{ID: n.ID.String()}.AppendText(nil)
	if b == nil {
		return []byte("\n") // a Broadcaster that has no position; an empty id would clear the client's
	}
	return b
}

func noticeEnvelope(n fanfare.Notice) []byte {
	b, _ := block("", n.ID.String(), delivery.NoticeEnvelope(n))
	return b
}

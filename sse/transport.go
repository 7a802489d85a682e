package sse

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/ratelog"
	"github.com/fanfare-go/fanfare/internal/wrappers"
)

// transport makes an event stream of one request.
type transport struct {
	*Handler
	options Options // with defaults
	query   url.Values

	// Set by Check.
	response *response
	detach   bool
}

// Check wants a GET or a HEAD for an event stream, and a ResponseWriter that can
// flush.
func (t *transport) Check(w, target http.ResponseWriter, r *http.Request) (delivery.Mode, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return delivery.Mode{}, refusal(http.StatusMethodNotAllowed, "the method is "+ratelog.Cut(r.Method))
	}
	if !acceptable(r) {
		return delivery.Mode{}, refusal(http.StatusNotAcceptable, "Accept excludes text/event-stream")
	}
	response, err := newResponse(target, r, &t.buffers, t.options)
	if err != nil {
		return delivery.Mode{}, err
	}
	t.response = response
	t.detach = t.Detach && !t.polls() && detachable(target, r)
	return delivery.Mode{
		Codec:       t.codecs.of(t.query, t.detach),
		Detached:    t.detach,
		Unwatched:   t.detach || response.bodyTimeout > 0, // net/http reads on only after all of a body
		RefuseEnded: true,
		Status:      http.StatusOK,
		Header:      setHeader,
		Heartbeat:   t.heartbeat(r),
	}, nil
}

// heartbeat returns the interval of the stream's heartbeats; 0: it has none.
func (t *transport) heartbeat(r *http.Request) time.Duration {
	if t.polls() || r.Method == http.MethodHead {
		return 0
	}
	return t.options.Heartbeat
}

func refusal(status int, reason string) error {
	return &fanfare.Refusal{Status: status, Err: errors.New(reason)}
}

func (t *transport) polls() bool { return delivery.IsOn(t.query, "poll") }

// detachable reports whether the connection of a request can be given to a stream. The
// rest of a body would never be read, and closing the connection would reset it.
func detachable(target http.ResponseWriter, r *http.Request) bool {
	_, _, canHijack := wrappers.Find[http.Hijacker](target)
	return canHijack && r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor >= 1 && r.ContentLength == 0
}

// Begin sends the header and writes the stream; a detached one goes on by itself.
func (t *transport) Begin(target http.ResponseWriter, r *http.Request, o *delivery.Opening) error {
	first := t.prologue(r)
	if !forbidsReuse(target.Header()) {
		target.Header().Del("Cache-Control")
	}
	if t.detach {
		return t.beginDetached(target, r, o, first)
	}
	t.warnIfHidden(r, t.response.conn)
	defer t.response.deadline.Leave() // also after a panic in a wrapper's WriteHeader
	if err := t.response.commit(t.options); err != nil {
		t.warn(target, err)
	}
	switch {
	case r.Method == http.MethodHead:
		t.response.End(delivery.Reason{})
	case t.polls():
		o.Poll(t.response, first)
	default:
		t.response.aborts = t.Abort
		o.Serve(t.response, first, t.options.MaxAge)
		if t.response.uncut && r.Context().Err() == nil {
			panic(http.ErrAbortHandler)
		}
	}
	return nil
}

func (t *transport) beginDetached(target http.ResponseWriter, r *http.Request, o *delivery.Opening, first []byte) error {
	conn, head, err := t.hijack(target, r, t.options)
	if err != nil {
		return err
	}
	o.Start(conn, append(head, chunk(first)...), t.options.MaxAge)
	return nil
}

// prologue is what comes before everything: a line of the first block says how long the
// stream may be silent, in a comment, since the format has no field for it. It comes after
// the reconnection time, and no blank line follows. An envelope says it in JSON, and what
// reads a Handler's Notice knows a protocol of its own.
func (t *transport) prologue(r *http.Request) []byte {
	b := prologue(r, t.options)
	heartbeat := t.heartbeat(r)
	if heartbeat == 0 || t.Handler.Notice != nil || delivery.IsOn(t.query, "envelope") {
		return b
	}
	return append(delivery.AppendSeconds(append(b, heartbeatComment...), heartbeat), '\n')
}

// heartbeatComment begins the comment with the interval of heartbeats in seconds.
const heartbeatComment = ": heartbeat "

// forbidsReuse reports whether a Cache-Control, which a middleware around the handler may
// have set for all responses, keeps caches from answering with a stream that they have
// stored (RFC 9111 section 5.2.2).
func forbidsReuse(header http.Header) bool {
	for directive := range strings.SplitSeq(strings.Join(header.Values("Cache-Control"), ","), ",") {
		switch strings.ToLower(strings.TrimSpace(directive)) {
		case "no-store", "no-cache":
			return true
		}
	}
	return false
}

// warn says once that the deadlines of connections cannot be reached.
func (t *transport) warn(target http.ResponseWriter, err error) {
	if t.warnedOfDeadline.Swap(true) {
		return
	}
	cmp.Or(t.Logger, slog.Default()).Warn("sse: the connection's deadlines cannot be reached: http.Server's timeouts will cut streams, "+
		"and a client that does not read is not cut; give the wrapper an Unwrap method",
		"wrapper", fmt.Sprintf("%T", target), "error", err)
}

// acceptable reports whether the client's Accept admits an event stream: the
// most specific range that matches decides (RFC 9110 section 12.5.1).
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

// prologue is what comes before everything. Its lines are part of the first block: no
// blank line follows them, for which some clients would fire an event. It may be empty,
// and is never nil: the header is sent at once all the same.
func prologue(r *http.Request, o Options) []byte {
	b := []byte{}
	if delivery.IsOn(r.URL.Query(), "padding") {
		b = append(b, ':')
		b = append(b, strings.Repeat(" ", 2048)...)
		b = append(b, '\n')
	}
	if o.Retry > 0 {
		b = fmt.Appendf(b, "retry: %d\n", max(1, spread(o.Retry).Milliseconds()))
	}
	return b
}

// lastRetry is what a stream writes last that ends for a reason with a reconnection time: from
// that, or the stream's own if it is longer, up to twice as long. A client has it without a
// blank line, for which some would fire an event.
func lastRetry(why delivery.Reason, own time.Duration) []byte {
	if why.Retry == 0 {
		return nil
	}
	least := min(max(why.Retry, own), math.MaxInt64/2)
	return fmt.Appendf(nil, "retry: %d\n", (least + rand.N(least)).Milliseconds())
}

// isLast reports whether nothing follows on any stream that a client may open after this one,
// because all topics have ended. That is an end in good order, also with Handler.Abort.
func isLast(why delivery.Reason) bool { return why.Name == delivery.Ended.Name }

// spread draws the reconnection time of one stream, from three to five quarters of
// retry: clients that are cut together do not come back together.
func spread(retry time.Duration) time.Duration {
	shortest := retry - retry/4
	return shortest + rand.N(min(retry/2, math.MaxInt64-shortest)+1)
}

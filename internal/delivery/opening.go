package delivery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Opening is a stream before its first byte. It has its grant and its subscription,
// and has polled once: whatever can fail has failed by then, while the request can
// still be refused. Start, Serve or Poll makes it a stream.
type Opening struct {
	stream     *Stream
	begun      bool
	gapNotSent bool // the first poll found a gap that this wire cannot send
}

// unknown is a position that always resumes as a gap.
var unknown = broadcast.MakeID(1, 0)

// After returns the position that a request resumes after. The header comes first:
// an EventSource repeats the query of its first URL on every reconnect. Text that is
// no ID resumes as a gap.
func After(r *http.Request) broadcast.ID {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		query := r.URL.Query()
		for _, name := range []string{"lastEventId", "last_event_id", "lastEventID"} {
			if text = query.Get(name); text != "" {
				break
			}
		}
	}
	id, err := broadcast.ParseID(text)
	if err != nil {
		return unknown
	}
	return id
}

// Asks reports whether a query switches on what is named, with 1 or true.
func Asks(query url.Values, name string) bool {
	value := query.Get(name)
	return value == "1" || value == "true"
}

// open does everything that comes before the first byte of a stream.
func (e *Engine) open(r *http.Request, mode Mode) (_ *Opening, err error) {
	if e.Broadcaster == nil {
		return nil, fmt.Errorf("%s: Handler.Broadcaster is nil", e.Name)
	}
	s := &Stream{engine: e, codec: mode.Codec, request: r.Context(), detached: mode.Detached, writer: writer{pollSize: minPoll}}
	s.beats.always = Asks(r.URL.Query(), "heartbeat")
	s.server = e.servers.of(r) // before Grant: a Shutdown from here on ends the stream
	o := &Opening{stream: s}
	opened := false
	defer func() {
		if !opened { // also after a panic
			o.abandon()
		}
	}()
	if s.grant, err = e.grant(r, s.Context); err != nil {
		return nil, err
	}
	after := After(r)
	s.catchingUp = !after.IsZero()
	s.sub, err = e.Broadcaster.Subscribe(r.Context(), broadcast.SubscribeOptions{
		Topics: s.grant.Topics,
		After:  after,
		Last:   s.grant.Last,
		Notify: s.notify,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: subscribing: %w", e.Name, err)
	}
	switch err := s.firstPoll(after.IsZero()); {
	case errors.Is(err, errGapNotSent):
		o.gapNotSent = true
	case err != nil:
		return nil, fmt.Errorf("%s: beginning the stream: %w", e.Name, err)
	}
	if _, ok := r.Context().Deadline(); ok && !mode.Detached {
		e.warnOfDeadline.Do(func() {
			e.log().Warn(e.Name+": the request's context has a deadline, which will end the stream; "+
				"a timeout middleware is the usual cause: mount the handler outside of it", "path", r.URL.Path)
		})
	}
	if mode.Detached && e.Grant != nil {
		s.grant = withoutRequest(s.grant)
	}
	opened = true
	return o, nil
}

// withoutRequest returns what a stream needs of a grant once it is subscribed. It
// keeps no text of the request's URL alive, which the topics may be parts of.
func withoutRequest(g *fanfare.Grant) *fanfare.Grant {
	k := *g
	k.Topics = nil
	if k.Change != nil { // a change that is refused is answered with the topics as they are
		for _, name := range g.Topics {
			k.Topics = append(k.Topics, strings.Clone(name))
		}
	}
	return &k
}

// Context returns the stream's context, which ends when the stream has ended.
func (o *Opening) Context() context.Context { return o.stream.Context() }

// Stream returns the stream that this becomes.
func (o *Opening) Stream() *Stream { return o.stream }

// Use replaces the codec by another of the handler's, where only the handshake tells
// which. What the first poll found is encoded already.
func (o *Opening) Use(c *Codec) { o.stream.codec = c }

// abandon releases what did not begin.
func (o *Opening) abandon() {
	if o.begun {
		return
	}
	s := o.stream
	if s.cancel != nil {
		s.cancel()
	}
	if s.sub != nil {
		s.sub.Close()
	}
}

// Start lets the handler's workers write to conn: the prologue, what the first poll
// found, and what follows. After every interval (0: never) in which nothing was written,
// the stream sends its position or a heartbeat. It ends at most maxAge later (0: never),
// and then calls conn.End.
func (o *Opening) Start(conn Conn, prologue []byte, interval, maxAge time.Duration) {
	s := o.stream
	if maxAge > 0 {
		s.ending.endAt(s.engine.clock.now()+Lifetime(maxAge), &Restart)
	}
	o.begin(conn, prologue, interval)
	if s.detached {
		s.request = nil
	} else {
		s.unwatch = context.AfterFunc(s.request, func() { s.End(RequestEnded) })
	}
	s.engine.workers.add(s)
}

// Serve is Start for a stream that the calling goroutine writes. It returns when the
// stream has ended. No goroutine watches the end of the request: it would take as much
// memory as the stream.
func (o *Opening) Serve(conn Conn, prologue []byte, interval, maxAge time.Duration) {
	s := o.stream
	if maxAge > 0 {
		s.ending.endAt(s.engine.clock.now()+Lifetime(maxAge), &Restart)
	}
	o.serve(conn, prologue, interval)
}

// Poll is Serve for a client that polls: the stream ends with the first thing that is
// new to the client, or after pollFor.
func (o *Opening) Poll(conn Conn, prologue []byte) {
	s := o.stream
	s.polling = true
	s.ending.endAt(s.engine.clock.now()+pollFor, &Polled)
	o.serve(conn, prologue, 0)
}

// pollFor is how long a client that polls waits: less than proxies do.
const pollFor = 25 * time.Second

func (o *Opening) serve(conn Conn, prologue []byte, interval time.Duration) {
	s := o.stream
	s.wake = make(chan struct{}, 1)
	o.begin(conn, prologue, interval)
	for !s.run(nil) {
		select {
		case <-s.wake:
		case <-s.request.Done(): // endReason finds it
		}
	}
}

// begin makes the opening a stream, which everything may end from here on.
func (o *Opening) begin(conn Conn, prologue []byte, interval time.Duration) {
	o.begun = true
	s := o.stream
	now := s.engine.clock.now()
	s.conn, s.beats.interval = conn, interval
	s.beats.wrote.Store(int64(now))
	s.shard = s.engine.counts.begin(s.catchingUp)
	if !s.grant.Expires.IsZero() {
		s.ending.endAt(max(1, now+time.Until(s.grant.Expires)), &Expired)
	}
	if prologue != nil {
		s.opening.precede(prologue)
	}
	if d := s.tick(); d > 0 {
		s.engine.clock.schedule(s, d)
	}
	if s.server != nil && !s.server.add(s) {
		s.End(Restart)
	}
	if o.gapNotSent {
		s.End(GapNotSent)
	}
	if streamctx.Held(s.request) {
		s.detach = streamctx.Attach(s.request, s.endAs)
	}
	if ctx, ok := s.ctx.(*detachedContext); ok {
		ctx.dropValues()
	}
}

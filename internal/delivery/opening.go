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
	"github.com/fanfare-go/fanfare/internal/prefetch"
	"github.com/fanfare-go/fanfare/internal/ratelog"
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

// IsOn reports whether a query switches a parameter on, with 1 or true.
func IsOn(query url.Values, name string) bool {
	value := query.Get(name)
	return value == "1" || value == "true"
}

// open does everything that comes before the first byte of a stream.
func (e *Engine) open(r *http.Request, mode Mode) (_ *Opening, err error) {
	if err := e.lacks(); err != nil {
		return nil, err
	}
	s := &Stream{engine: e, codec: mode.Codec, request: &request{Context: r.Context()}, detached: mode.Detached, pollSize: minPoll}
	s.beats.interval, s.beats.always, s.beats.soon = mode.Heartbeat, IsOn(r.URL.Query(), "heartbeat"), mode.Unwatched
	e.forms.enter(s.codec)
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
	s.ending.expires.Store(int64(e.clock.at(s.grant.Expires)))
	after := After(r)
	if isUnknown(after) && (s.grant.Beginning || s.grant.Snapshot != nil) {
		after = broadcast.ID{} // it was cut in a beginning, and begins again
	}
	s.catchingUp = !after.IsZero()
	if s.sub, err = s.subscribe(r.Context(), after); err != nil {
		return nil, fmt.Errorf("%s: subscribing: %w", e.Name, err)
	}
	switch err := s.firstPoll(after.IsZero()); {
	case errors.Is(err, errGapNotSent):
		o.gapNotSent = true
	case errors.Is(err, broadcast.ErrEnded):
		if mode.RefuseEnded {
			return nil, &fanfare.Refusal{Status: http.StatusNoContent, Err: err}
		}
	case err != nil:
		return nil, fmt.Errorf("%s: beginning the stream: %w", e.Name, err)
	}
	if _, ok := r.Context().Deadline(); ok && !mode.Detached && !e.warnedOfDeadline.Swap(true) {
		e.log().Warn(e.Name+": the request's context has a deadline, which will end the stream; "+
			"a timeout middleware is the usual cause: mount the handler outside of it", "path", ratelog.Cut(r.URL.Path))
	}
	if mode.Detached && e.Grant != nil {
		s.grant = withoutRequest(s.grant, s.sub)
	}
	opened = true
	return o, nil
}

// firstPoll polls for the first time and prepares what the stream begins with: where
// it begins, a gap or a beginning, then what follows. A client that does not resume (fresh)
// gets its state before the position and without IDs: if it is cut among them, it comes back
// without a position and gets all of it again. If the client has nothing left to get, because
// all topics have ended, firstPoll returns broadcast.ErrEnded, and the stream may begin all the
// same.
func (s *Stream) firstPoll(fresh bool) error {
	b := s.engine.batches.get(nil)
	b.isFirst = true
	s.firstBatch = b
	s.hasNothing = fresh
	b.beginsAfter = s.sub.Position()
	n, _, err := s.poll(b.messages[:s.pollSize])
	b.polled = n
	ended := errors.Is(err, broadcast.ErrEnded)
	begin, begins := errors.AsType[*broadcast.BeginError](err)
	gap, isGap := errors.AsType[*broadcast.GapError](err)
	b.beginning = !isGap || s.grant.Snapshot != nil
	switch {
	case isGap:
		err = s.sendGap(b, gap)
	case begins:
		err = s.sendBegin(b, begin)
	case err != nil && !ended:
		return err
	case fresh && s.grant.Snapshot != nil:
		s.begun++
		if err = s.addBegin(b, nil, nil); err == nil {
			err = s.snapshot(b)
		}
		s.begins, s.bare = false, false // the position follows the Last messages, if there are any
	default:
		err = nil
	}
	if err != nil {
		b.drop()
		return err
	}
	if !s.begins && (b.polled == 0 || !b.isLast(b.messages[0])) {
		s.begin(b)
	}
	s.sentNews = s.sentNews || fresh && !s.begins
	if ended && !fresh {
		return broadcast.ErrEnded
	}
	return nil
}

// isLast reports whether a message is one of Grant.Last: it comes up to where the stream
// begins, and the position is after it from the start. The writer sends those without their
// IDs, as much at a time as one write takes, and begins the stream before the first message
// that is none.
func (b *batch) isLast(m *broadcast.Message) bool {
	return b.beginning && !isAfter(m.ID, b.beginsAfter)
}

// begin sends the position where the stream begins, unless that has been sent. Nothing else
// may send a position before, but for a beginning.
func (s *Stream) begin(b *batch) {
	if b.beginning {
		b.beginning = false
		s.send(b, fanfare.Notice{Kind: fanfare.Ready, ID: b.beginsAfter, Heartbeat: s.beats.interval, Expires: s.lifeLeft()})
	}
}

// isAfter reports whether a message comes after a position. One of another epoch does.
func isAfter(id, position broadcast.ID) bool {
	return id.Epoch() != position.Epoch() || id.Seq() > position.Seq()
}

// isUnknown reports whether a position always resumes as a loss, as those of beginnings do.
func isUnknown(position broadcast.ID) bool { return position.Epoch() == unknown.Epoch() }

// withoutRequest returns what a stream needs of a grant once it is subscribed. It drops or
// replaces the topics: they may be parts of the request's URL, which they would keep in
// memory.
func withoutRequest(g *fanfare.Grant, sub broadcast.Subscription) *fanfare.Grant {
	if g.Filter == nil && g.Snapshot == nil && g.Change == nil && g.Renew == nil {
		return &nothingMore
	}
	k := *g
	k.Topics = nil
	if k.Change != nil { // a change is compared with them
		k.Topics = namesOf(sub, g.Topics)
	}
	return &k
}

// nothingMore is the grant of streams that need nothing of theirs once they are subscribed.
var nothingMore fanfare.Grant

// namesOf returns topics whose names nothing else hangs on: those that the subscription has
// anyway, if it is a Hub's, or else clones.
func namesOf(sub broadcast.Subscription, topics []string) []string {
	if sub, ok := sub.(interface{ Topics() []string }); ok && len(topics) > 0 { // else it is nowhere
		return sub.Topics()
	}
	names := make([]string, len(topics))
	for i, name := range topics {
		names[i] = strings.Clone(name)
	}
	return names
}

// Context returns the stream's context, which ends when the stream has ended.
func (o *Opening) Context() context.Context { return o.stream.Context() }

// Stream returns the stream that this becomes.
func (o *Opening) Stream() *Stream { return o.stream }

// Use replaces the codec, where only the handshake shows which one fits. Notices and the
// Snapshot that the stream begins with are encoded by then; messages are not.
func (o *Opening) Use(c *Codec) {
	forms := &o.stream.engine.forms
	forms.enter(c)
	forms.leave(o.stream.codec)
	o.stream.codec = c
}

// abandon releases what did not begin.
func (o *Opening) abandon() {
	if o.begun {
		return
	}
	s := o.stream
	s.endLifetime()
	if s.sub != nil {
		s.sub.Close()
	}
	s.engine.forms.leave(s.codec)
}

// Start lets the handler's workers write to conn: the prologue, what the first poll
// found, and what follows. The stream ends at most maxAge later (0: never), and then calls
// conn.End.
func (o *Opening) Start(conn Conn, prologue []byte, maxAge time.Duration) {
	s := o.stream
	o.begin(conn, prologue, maxAge)
	if s.detached {
		if ctx, ok := s.request.Context.(*detachedContext); ok {
			ctx.dropValues()
		}
		s.request = nil
	} else {
		s.watchRequest()
	}
	s.engine.workers.add(s)
}

// Serve is Start for a stream that the calling goroutine writes. It returns when the
// stream has ended.
func (o *Opening) Serve(conn Conn, prologue []byte, maxAge time.Duration) {
	o.serve(conn, prologue, maxAge)
}

// Poll is Serve for a client that polls: the stream ends with the first thing that is
// new to the client, or after pollFor.
func (o *Opening) Poll(conn Conn, prologue []byte) {
	s := o.stream
	s.polling = true
	s.ending.at = s.engine.clock.now() + pollFor
	o.serve(conn, prologue, 0)
}

// pollFor is how long a client that polls waits: less than proxies do.
const pollFor = 25 * time.Second

func (o *Opening) serve(conn Conn, prologue []byte, maxAge time.Duration) {
	s := o.stream
	wake := make(chan struct{}, 1)
	s.wake = wake
	o.begin(conn, prologue, maxAge)
	s.watchRequest()
	for !s.run(nil) {
		<-wake
		prefetch.Struct(s)
		s.prefetch()
	}
}

// begin makes the opening a stream. From here on any goroutine may end it.
func (o *Opening) begin(conn Conn, prologue []byte, maxAge time.Duration) {
	o.begun = true
	s := o.stream
	now := s.engine.clock.now()
	s.conn, s.beats.began = conn, now
	if unread, ok := conn.(Unread); ok && unread.Watch(&s.engine.Watch, (*leaver)(s)) {
		s.beats.soon = false // nothing is to be found out
	}
	s.beats.wrote.Store(int64(now))
	s.resumed = s.catchingUp
	s.shard = s.engine.counts.begin(s.resumed)
	if maxAge > 0 {
		s.ending.at = now + Lifetime(maxAge)
	}
	if prologue != nil {
		s.firstBatch.precede(prologue)
	}
	if d := s.tick(); d > 0 {
		s.engine.clock.schedule(s, d)
	}
	if streamctx.Held(s.request.Context) {
		s.holds = streamctx.Attach(s.request.Context, s.endAs)
	}
	if s.server != nil && !s.server.add(s) { // from here on Streams finds it
		s.End(Restart)
	}
	if o.gapNotSent {
		s.End(GapNotSent)
	}
}

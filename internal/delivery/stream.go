package delivery

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Stream carries one subscription to one client. All that goes over the wire is
// written by its writer: it polls, writes all of that, and only then may tell a
// position, so that no position ever overtakes a message.
//
// The writer is a worker of the handler's, which has many streams to write for, or the
// goroutine that serves the stream's request. A stream has a turn of it only while there
// is something to write.
type Stream struct {
	codec   *Codec
	clock   *clock
	workers *workers
	counts  *counts
	next    *Stream       // that waits for a worker
	wake    chan struct{} // wakes the goroutine that serves the stream; nil: a worker writes
	grant   *fanfare.Grant
	sub     broadcast.Subscription
	conn    Conn
	server  *server // nil outside of one

	// ctx is the stream's own: it ends when the stream has ended. Who asks for none,
	// such as a handler without a Grant, has none.
	ctx     context.Context
	cancel  context.CancelFunc
	request context.Context // the request's; nil once a stream has started that outlives it
	stop    func() bool     // the watch over the request's end; may be nil
	detach  func()          // from what middleware holds for the stream; nil if nothing is

	stopAsking atomic.Pointer[context.CancelFunc] // ends the context of Grant.Snapshot
	done       atomic.Pointer[chan struct{}]      // closed when the stream has ended; nil if nobody has asked

	word  atomic.Int32           // whether there is a writer, and whether it has to look again
	due   atomic.Bool            // a beat is due
	over  atomic.Bool            // the stream has ended
	place int32                  // among the clock's ticks, from 1; the clock's
	why   atomic.Pointer[Reason] // set once the stream is to end
	wrote atomic.Int64           // when something was written last, by the clock
	turn  atomic.Int64           // when the writer's turn began, likewise; 0: it has none
	every time.Duration          // beats; 0: never
	until time.Duration          // the stream ends then, by the clock; 0: never

	wanted atomic.Pointer[[]string] // topics that the client has asked for, and has not got yet

	// What follows is the writer's.
	told        broadcast.ID // the position that the client has
	opening     *batch       // what the first look found
	room        int          // how many messages the next Poll takes
	catching    bool         // it has resumed, and not caught up yet
	unspeakable bool         // it was a gap, which the wire cannot tell
	news        bool         // it was something that the client did not know

	// What follows is set before the stream starts.
	outlives bool // the stream does, its request
	expires  bool // until is when the grant does
	poll     bool // the stream ends with the first news
	restless bool // each beat tells the position
	cell     byte // of the counts
}

// The states of Stream.word. A look that finds nothing and a notification that
// comes meanwhile must not miss each other: the writer goes idle only from
// writing, and a notification makes it notified.
const (
	writing int32 = iota // also before the first writer
	notified
	idle
)

func newStream(ctx context.Context, h Handler, state *State, codec *Codec) *Stream {
	return &Stream{codec: codec, clock: &state.clock, workers: &state.workers, counts: &state.counts, request: ctx, outlives: h.Detach, room: minRoom}
}

// Context ends when the stream has ended. It is first asked for before Start.
func (s *Stream) Context() context.Context {
	switch {
	case s.ctx != nil:
	case s.outlives:
		s.ctx, s.cancel = newLife(s.request)
	default:
		s.ctx, s.cancel = context.WithCancel(s.request)
	}
	return s.ctx
}

// closed is what Done returns of a stream that has ended.
var closed = func() *chan struct{} {
	c := make(chan struct{})
	close(c)
	return &c
}()

// Done is closed when the stream has ended: nothing is written any more.
func (s *Stream) Done() <-chan struct{} {
	c := make(chan struct{})
	if s.done.CompareAndSwap(nil, &c) {
		return c
	}
	return *s.done.Load()
}

// Abandon lets go of a stream that was not started.
func (s *Stream) Abandon() {
	if s.cancel != nil {
		s.cancel()
	}
	if s.sub != nil {
		s.sub.Close()
	}
}

// Use lets a stream that has not started go on with another of the handler's codecs,
// where only the handshake tells which. What the stream begins with is encoded.
func (s *Stream) Use(codec *Codec) { s.codec = codec }

// Start begins to write to a connection that stands: the prologue, then what the
// first look found. Every interval (0: never) in which nothing was written, it
// tells the position or lets the connection beat. It ends at most maxAge later (0:
// never). The stream ends by itself; conn.End is the last it does.
func (s *Stream) Start(conn Conn, prologue []byte, interval, maxAge time.Duration) {
	s.begin(conn, prologue, interval, maxAge)
	if s.outlives {
		s.request = nil
	} else {
		s.stop = context.AfterFunc(s.request, func() { s.End(RequestEnded) })
	}
	s.workers.add(s)
}

// Serve is Start for a stream that is written by its caller, and returns when it has
// ended. It watches over the request's end by itself, since a watch would take as much
// as a stream.
func (s *Stream) Serve(conn Conn, prologue []byte, interval, maxAge time.Duration) {
	s.wake = make(chan struct{}, 1)
	s.begin(conn, prologue, interval, maxAge)
	for !s.run(nil) {
		select {
		case <-s.wake:
		case <-s.request.Done(): // which drain looks at
		}
	}
}

// Poll is Serve for a client that polls: the stream ends with the first news, or after
// a while. It is the same stream, so that nothing is lost between one and the next.
func (s *Stream) Poll(conn Conn, prologue []byte) {
	s.poll = true
	s.Serve(conn, prologue, 0, pollFor)
}

// pollFor is how long a client that polls waits: less than proxies do.
const pollFor = 25 * time.Second

func (s *Stream) begin(conn Conn, prologue []byte, interval, maxAge time.Duration) {
	s.conn, s.every = conn, interval
	if s.catching {
		s.counts.resumed.Add(1)
	} else {
		s.counts.fresh.Add(1)
	}
	s.cell = byte(s.counts.next.Add(1) % uint32(len(s.counts.cells)))
	s.wrote.Store(int64(s.clock.now()))
	s.endLater(maxAge)
	if prologue != nil {
		s.opening.precede(prologue)
	}
	if s.unspeakable {
		s.End(Unspeakable)
	}
	if streamctx.Held(s.request) {
		s.detach = streamctx.Attach(s.request, s.endAs)
	}
	if l, ok := s.ctx.(*life); ok {
		defer l.letGo()
	}
}

// endAs ends the stream as a middleware wants.
func (s *Stream) endAs(how streamctx.End) {
	switch {
	case how.Cut:
		s.End(Cut)
		s.conn.Cut()
	case how.Code != 0:
		s.End(Reason{Name: "disconnected", Code: how.Code, Text: how.Reason})
	default:
		s.End(Restart)
	}
}

// endLater arms what ends the stream from outside.
func (s *Stream) endLater(maxAge time.Duration) {
	now := s.clock.now()
	switch {
	case s.poll:
		s.until = now + maxAge
	case maxAge > 0:
		s.until = now + maxAge - rand.N(maxAge/5+1)
	}
	if !s.grant.Expires.IsZero() {
		if until := max(1, now+time.Until(s.grant.Expires)); s.until == 0 || until < s.until {
			s.until, s.expires = until, true
		}
	}
	if d := s.tick(); d > 0 {
		s.clock.look(s, d)
	}
	if s.server != nil && !s.server.add(s) {
		s.End(Restart)
	}
}

// tick does what is due by the clock, and returns after how long to look again; 0:
// not any more.
func (s *Stream) tick() time.Duration {
	now := s.clock.now()
	if s.over.Load() {
		return 0
	}
	if s.until > 0 && now >= s.until {
		switch {
		case s.expires:
			s.End(Expired)
		case s.poll:
			s.End(Polled)
		default:
			s.End(Restart)
		}
		s.until = 0
	}
	next := s.conn.Tick()
	if s.every > 0 {
		quiet := s.every - s.silence(now)
		if quiet <= 0 {
			quiet = s.every
			s.due.Store(true)
			s.notify()
		}
		next = sooner(next, quiet)
	}
	if s.until > 0 {
		next = sooner(next, s.until-now)
	}
	return next
}

// sooner returns the shorter of two times to wait; a first of 0 is for ever.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// End asks the stream to end. The first reason stands.
func (s *Stream) End(why Reason) {
	if !s.why.CompareAndSwap(nil, &why) {
		return
	}
	if stop := s.stopAsking.Load(); stop != nil {
		(*stop)()
	}
	err := guard.Call("the asking for an end", func() error {
		if sub, ok := s.sub.(broadcast.Finisher); ok && why.Owed {
			sub.Finish()
		}
		s.conn.Closing()
		return nil
	})
	if err != nil {
		s.codec.Logger.Error(s.codec.Name+": ending a stream", "error", err)
	}
	s.notify()
}

// asked returns why the stream is to end; nil if it is not.
func (s *Stream) asked() *Reason {
	if s.request != nil && s.request.Err() != nil {
		s.End(RequestEnded)
	}
	return s.why.Load()
}

// Change asks for other topics, if the Grant lets the client do that. What is asked for
// later counts.
func (s *Stream) Change(topics []string) {
	s.wanted.Store(&topics)
	s.notify()
}

// MayChange reports whether the Grant lets the client ask for other topics. It is called
// before Start.
func (s *Stream) MayChange() bool { return s.grant.Change != nil }

// silence is how long ago something was written.
func (s *Stream) silence(now time.Duration) time.Duration {
	return now - time.Duration(s.wrote.Load())
}

// notify makes sure that a writer looks again.
func (s *Stream) notify() {
	switch {
	case s.word.Swap(notified) != idle:
	case s.wake != nil:
		s.wake <- struct{}{} // there is room: it is idle only once
	default:
		s.workers.add(s)
	}
}

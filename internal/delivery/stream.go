package delivery

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/prefetch"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// Stream carries one subscription to one client. Its writer runs on a worker of the
// engine, or on the goroutine that serves its request, and only while there is something
// to write.
//
// What wakes it and what a turn needs first is at its beginning, close together.
type Stream struct {
	signal signal // of any goroutine

	// Set before the stream begins.
	detached bool // the stream outlives its request
	polling  bool // the stream ends with the first thing that is new to the client
	resumed  bool // the stream began from a position
	shard    byte // of the engine's counts
	engine   *Engine
	wake     chan struct{} // wakes the goroutine that serves the request; nil: a worker writes
	request  *request      // nil once a detached stream has begun
	sub      broadcast.Subscription
	conn     Conn
	codec    *Codec
	server   *server               // nil outside of an http.Server
	holds    *streamctx.Attachment // what middleware holds for the stream; nil if nothing is held

	lifetime  atomic.Pointer[lifetime] // nil until something asks for it
	ending    ending
	beats     beats
	heapIndex int32 // among the clock's ticks, from 1; 0: none. Guarded by clock.mu
	place     int32 // among the server's streams. Guarded by server.mu

	requests atomic.Pointer[requests] // what the client asks for on the open stream; nil until it does

	// Owned by the writer. The opening is its first owner.
	grant        *fanfare.Grant
	worker       *Worker      // which runs the turn; nil: a goroutine of the stream's own
	firstBatch   *batch       // what the first poll found, until the first turn
	sentPosition writersID    // the position that the client has
	turnBegan    atomic.Int64 // when the writer's turn began, see Worker.beginTurn; 0: it has none. Read by Stats
	pollSize     int16        // how many messages the next Poll may return
	catchingUp   bool         // it has resumed, and not reached the newest message yet
	sentNews     bool         // it was sent something that it did not know
	bare         bool         // messages went out without IDs, and no position since that has passed them
	begins       bool         // topics begin: the position that follows is due
	hasNothing   bool         // the client has nothing that the next beginning makes it forget
	begun        uint8        // Snapshots until another round was completed
}

// prefetch has what the next turn needs fetched. The stream itself has been fetched before.
func (s *Stream) prefetch() {
	prefetch.Value(s.sub)
	prefetch.Value(s.conn)
}

// request is what a stream has of its request.
type request struct {
	context.Context             // or the detachedContext over it
	unwatch         func() bool // stops the watch over the request's end
}

// watchRequest ends the stream with its request. It takes no goroutine, and costs less than to
// look at the context in each turn and to wait for either of two channels.
func (s *Stream) watchRequest() {
	if s.request.Err() != nil {
		s.End(RequestEnded) // before its first turn
	}
	s.request.unwatch = context.AfterFunc(s.request.Context, func() { s.End(RequestEnded) })
}

// Context returns the stream's context, which ends when the stream has ended. Before the stream
// begins, it is called by the goroutine that opens it.
func (s *Stream) Context() context.Context {
	if !s.detached || s.request == nil {
		return s.live().Context
	}
	if _, ok := s.request.Context.(*detachedContext); !ok {
		s.request.Context = newDetachedContext(s, s.request.Context)
	}
	return s.request.Context
}

// Done returns a channel that is closed when the stream has ended and nothing is
// written any more.
func (s *Stream) Done() <-chan struct{} { return s.ending.wait() }

// End asks the stream to end. The first reason stands, and is returned.
func (s *Stream) End(why Reason) Reason {
	if !s.ending.why.CompareAndSwap(nil, &why) {
		return *s.ending.why.Load()
	}
	defer s.notify() // also if a hook ends the goroutine: nothing else wakes the writer
	if stop := s.ending.stopSnapshot.Load(); stop != nil {
		(*stop)()
	}
	err := guard.Call("asking a stream to end", func() error {
		if sub, ok := s.sub.(broadcast.Finisher); ok && why.Complete {
			sub.Finish()
		}
		s.conn.Closing()
		return nil
	})
	if err != nil {
		s.engine.Report(slog.LevelError, "ending a stream", "error", err)
	}
	return why
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

// leaver is a stream whose client may leave.
type leaver Stream

// Ready ends the stream: the client has left.
func (l *leaver) Ready() { (*Stream)(l).End(Left) }

// endReason returns why the stream is to end; nil if it is not.
func (s *Stream) endReason() *Reason { return s.ending.why.Load() }

// Change asks for other topics. The client gets an answer in turn, also if its Grant does
// not let it change them. Only the latest request counts.
func (s *Stream) Change(wanted TopicsRequest) {
	s.asking().wanted.Store(&wanted)
	s.notify()
}

// MayChange reports whether the Grant lets the client ask for other topics, which no
// change takes away. It is called before the stream begins.
func (s *Stream) MayChange() bool { return s.grant.Change != nil }

// sent notes the position that the client has once what is in the batch is written.
func (s *Stream) sent(position broadcast.ID) { s.sentPosition.set(position) }

// writersID is an ID that the writer sets and gets, and whose sequence any goroutine may load.
type writersID struct {
	epoch uint64
	seq   atomic.Uint64
}

func (p *writersID) get() broadcast.ID { return broadcast.MakeID(p.epoch, p.seq.Load()) }

func (p *writersID) set(id broadcast.ID) {
	p.epoch = id.Epoch()
	p.seq.Store(id.Seq())
}

// notify makes sure that the writer polls once more.
func (s *Stream) notify() {
	switch {
	case !s.signal.notify():
	case s.wake != nil:
		s.wake <- struct{}{} // never blocks: the stream is idle once for each token
	default:
		s.engine.workers.add(s)
	}
}

// tick does what is due by the clock, and returns how long to wait before the next
// tick; 0: there is none.
func (s *Stream) tick() time.Duration {
	now := s.engine.clock.now()
	if s.ending.at > 0 && now >= s.ending.at {
		s.End(s.atReason())
		s.ending.at = 0
	}
	next := sooner(s.checkExpiry(), s.conn.Tick())
	due, wait := s.beats.check(now)
	if due {
		s.notify()
	}
	next = sooner(next, wait)
	if s.ending.at > 0 {
		next = sooner(next, s.ending.at-now)
	}
	return next
}

// atReason is why the stream ends at its time.
func (s *Stream) atReason() Reason {
	if s.polling {
		return Polled
	}
	return Restart
}

// sooner returns the shorter of two waiting times, where 0 stands for ever.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

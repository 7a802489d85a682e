package delivery

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Stream carries one subscription to one client. All that goes over the wire is
// written by its writer: it polls, writes all of that, and only then may tell a
// position, so that no position ever overtakes a message.
//
// The writer is a goroutine that exists only while there is something to write.
type Stream struct {
	name   string
	logger *slog.Logger
	codec  *Codec
	grant  *broadcast.Grant
	sub    broadcast.Subscription
	conn   Conn
	maxAge time.Duration
	server context.Context // ends when the server shuts down; may be nil

	ctx    context.Context // the stream's own: ends when the stream has ended
	cancel context.CancelFunc
	done   chan struct{}
	stops  []func() bool

	word  atomic.Int32           // whether there is a writer, and whether it has to look again
	why   atomic.Pointer[Reason] // set once the stream is to end
	due   atomic.Bool            // a beat is due
	wrote atomic.Bool            // something was written since the last beat

	// What follows is the writer's.
	told        broadcast.ID // the position that the client has
	opening     *batch       // what the first look found
	unspeakable bool         // it was a gap, which the wire cannot tell
}

// The states of Stream.word. A look that finds nothing and a notification that
// comes meanwhile must not miss each other: the writer goes idle only from
// writing, and a notification makes it notified.
const (
	writing int32 = iota // also before the first writer
	notified
	idle
)

// batch is what one look found, on its way to the connection.
type batch struct {
	messages [256]*broadcast.Message
	frames   net.Buffers
}

func (b *batch) add(frame []byte) {
	if frame != nil {
		b.frames = append(b.frames, frame)
	}
}

// maxWrite is how many bytes go out in one write at most, unless one message is
// larger: each write has a deadline of its own, which a slow client must be able
// to keep.
const maxWrite = 256 << 10

// batches hands out batches that hold nothing.
type batches struct{ pool sync.Pool }

func (p *batches) get() *batch {
	if b, ok := p.pool.Get().(*batch); ok {
		return b
	}
	return &batch{frames: make(net.Buffers, 0, 64)}
}

func (p *batches) put(b *batch) {
	clear(b.messages[:])
	if cap(b.frames) > 1024 {
		b.frames = nil
	}
	clear(b.frames[:cap(b.frames)])
	b.frames = b.frames[:0]
	p.pool.Put(b)
}

func newStream(ctx context.Context, h Handler, codec *Codec) *Stream {
	s := &Stream{name: h.Name, logger: h.logger(), codec: codec, maxAge: h.MaxAge, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// Context ends when the stream has ended.
func (s *Stream) Context() context.Context { return s.ctx }

// Done is closed when the stream has ended: nothing is written any more.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Abandon lets go of a stream that was not started.
func (s *Stream) Abandon() {
	s.cancel()
	if s.sub != nil {
		s.sub.Close()
	}
}

// look polls for the first time and prepares what the stream begins with: where
// it begins, or a gap, then what follows. The state that a fresh client begins
// with goes before the position, without IDs: if it is cut in the middle, it
// comes back as fresh.
func (s *Stream) look(fresh bool) error {
	b := s.codec.batches.get()
	s.opening = b
	begin := s.sub.Position()
	n, err := s.sub.Poll(b.messages[:])
	if gap, ok := errors.AsType[*broadcast.GapError](err); ok {
		return s.compose(b, n, gap)
	}
	if err != nil {
		return err
	}
	if fresh {
		if err := s.snapshot(b); err != nil {
			return err
		}
	}
	k := 0
	var gap *broadcast.GapError
	for k < n && !behind(b.messages[k].ID, begin) {
		s.add(b, b.messages[k], true)
		if k++; k < n {
			continue
		}
		if n, err = s.sub.Poll(b.messages[:]); err != nil && !errors.As(err, &gap) {
			return err
		}
		k = 0
	}
	s.tell(b, Control{Kind: Ready, ID: begin})
	copy(b.messages[:], b.messages[k:n])
	return s.compose(b, n-k, gap)
}

func behind(id, position broadcast.ID) bool {
	return id.Epoch() != position.Epoch() || id.Seq() > position.Seq()
}

// errUnspeakable ends a stream whose wire cannot tell a gap.
var errUnspeakable = errors.New("a gap cannot be told on this wire")

// compose makes frames of what a poll returned.
func (s *Stream) compose(b *batch, n int, gap *broadcast.GapError) error {
	if gap != nil {
		if err := s.tellGap(b, gap); err != nil {
			return err
		}
	}
	for _, m := range b.messages[:n] {
		s.add(b, m, false)
	}
	return nil
}

// tellGap tells a gap and where it goes on. Where the client is to get a snapshot
// after it, the position told with the gap resumes as a gap: a client cut in the
// middle of the snapshot gets it again.
func (s *Stream) tellGap(b *batch, gap *broadcast.GapError) error {
	told := Control{Kind: Gap, ID: gap.ID, Topics: gap.Topics}
	if s.grant.Snapshot != nil {
		told.ID = lost
	}
	if !s.tell(b, told) {
		return errUnspeakable
	}
	if s.grant.Snapshot == nil {
		return nil
	}
	if err := s.snapshot(b); err != nil {
		return err
	}
	s.tell(b, Control{Kind: Position, ID: gap.ID})
	return nil
}

// tell adds a Control, and reports whether the wire knows it.
func (s *Stream) tell(b *batch, c Control) bool {
	frame := s.codec.Control(c)
	b.add(frame)
	s.told = c.ID
	return frame != nil
}

func (s *Stream) snapshot(b *batch) error {
	if s.grant.Snapshot == nil {
		return nil
	}
	var state []broadcast.Message
	err := guard("Grant.Snapshot", func() (err error) {
		state, err = s.grant.Snapshot(s.ctx)
		return err
	})
	for i := range state {
		b.add(s.codec.try(&state[i], true))
	}
	return err
}

func (s *Stream) add(b *batch, m *broadcast.Message, bare bool) {
	if s.grant.Filter != nil && !s.passes(m) {
		return
	}
	if frame := s.codec.form(m, bare).frame; frame != nil {
		b.add(frame)
		if !bare {
			s.told = m.ID
		}
	}
}

func (s *Stream) passes(m *broadcast.Message) (pass bool) {
	err := guard("Grant.Filter", func() error {
		pass = s.grant.Filter(m)
		return nil
	})
	if err != nil && !s.codec.form(m, false).warned.Swap(true) {
		s.logger.Error(s.name+": dropped a message", "id", m.ID, "topic", m.Topic, "error", err)
	}
	return pass && err == nil
}

// Start begins to write to a connection that stands: the prologue, then what the
// first look found. Every interval (0: never) in which nothing was written, it
// tells the position or lets the connection beat. The stream ends by itself;
// conn.End is the last it does.
func (s *Stream) Start(conn Conn, prologue []byte, interval time.Duration) {
	s.conn = conn
	s.endLater()
	if interval > 0 {
		s.beatEvery(interval)
	}
	if prologue != nil {
		s.opening.frames = append(net.Buffers{prologue}, s.opening.frames...)
	}
	if s.unspeakable {
		s.End(Unspeakable)
	}
	go s.run()
}

// endLater arms what ends the stream from outside.
func (s *Stream) endLater() {
	after := func(d time.Duration, why Reason) {
		s.stops = append(s.stops, time.AfterFunc(d, func() { s.End(why) }).Stop)
	}
	if !s.grant.Expires.IsZero() {
		after(time.Until(s.grant.Expires), Expired)
	}
	if s.maxAge > 0 {
		after(s.maxAge-rand.N(s.maxAge/5+1), Restart)
	}
	if s.server != nil {
		s.stops = append(s.stops, context.AfterFunc(s.server, func() { s.End(Restart) }))
	}
	s.stops = append(s.stops, context.AfterFunc(s.ctx, func() { s.End(RequestEnded) }))
}

// End asks the stream to end. The first reason stands.
func (s *Stream) End(why Reason) {
	if !s.why.CompareAndSwap(nil, &why) {
		return
	}
	if sub, ok := s.sub.(interface{ Finish() }); ok && why.Owed {
		sub.Finish()
	}
	s.conn.Closing()
	s.notify()
}

// beatEvery makes a beat due after each interval in which nothing was written.
func (s *Stream) beatEvery(interval time.Duration) {
	var timer *time.Timer
	timer = time.AfterFunc(math.MaxInt64, func() {
		if !s.wrote.Swap(false) {
			s.due.Store(true)
			s.notify()
		}
		select {
		case <-s.done:
		default:
			timer.Reset(interval)
		}
	})
	s.stops = append(s.stops, timer.Stop)
	timer.Reset(interval) // only now, when its function knows it
}

// notify makes sure that a writer looks again.
func (s *Stream) notify() {
	if s.word.Swap(notified) == idle {
		go s.run()
	}
}

// run is the writer.
func (s *Stream) run() {
	for {
		s.word.Store(writing)
		more := false
		err := guard("the stream's writer", func() error {
			more = s.drain()
			return nil
		})
		if err != nil {
			s.fail(Fault, err)
		}
		if !more {
			s.finish()
			return
		}
		if s.word.CompareAndSwap(writing, idle) {
			return
		}
	}
}

// drain writes until nothing is left. It reports false once the stream is over.
func (s *Stream) drain() bool {
	b := s.opening
	if s.opening = nil; b == nil {
		b = s.codec.batches.get()
	}
	defer s.codec.batches.put(b)
	if !s.write(b) {
		return false
	}
	for {
		// Before the poll: what was in the log when the end was asked for is
		// still owed.
		why := s.why.Load()
		if why != nil && !why.Owed {
			return false
		}
		n, err := s.sub.Poll(b.messages[:])
		gap, _ := errors.AsType[*broadcast.GapError](err)
		if n > 0 || gap != nil {
			if err := s.compose(b, n, gap); err != nil {
				s.fail(Fault, err)
				return false
			}
			if !s.write(b) {
				return false
			}
		}
		switch {
		case gap != nil:
		case errors.Is(err, broadcast.ErrClosed):
			s.End(Restart)
			return false
		case err != nil:
			s.fail(Fault, err)
			return false
		case n == 0 && why != nil:
			return false
		case n == 0:
			return s.beat(b)
		}
	}
}

// beat does what a beat asks for, when everything polled has been written.
func (s *Stream) beat(b *batch) bool {
	if !s.due.Swap(false) || s.wrote.Load() {
		return true
	}
	if position := s.sub.Position(); position != s.told && s.tell(b, Control{Kind: Position, ID: position}) {
		return s.write(b)
	}
	if err := s.conn.Beat(); err != nil {
		s.fail(Failed, err)
		return false
	}
	return true
}

// write writes the frames of b. It reports false if the connection is gone.
func (s *Stream) write(b *batch) bool {
	for frames := b.frames; len(frames) > 0; {
		k, size := 1, len(frames[0])
		for k < len(frames) && size+len(frames[k]) <= maxWrite {
			size += len(frames[k])
			k++
		}
		if err := s.conn.Write(frames[:k:k]); err != nil {
			s.fail(Failed, err)
			return false
		}
		frames = frames[k:]
		s.wrote.Store(true)
	}
	b.frames = b.frames[:0]
	return true
}

// fail ends the stream because of an error.
func (s *Stream) fail(why Reason, err error) {
	switch {
	case errors.Is(err, errUnspeakable):
		why = Unspeakable
	case why == Fault:
		s.logger.Error(s.name+": ended a stream", "error", err)
	}
	s.End(why)
	if why == Failed {
		// Whatever asked for the end first: net/http ends a request's context when
		// a write of its response fails.
		s.why.Store(&why)
	}
}

// finish is the writer's last act. The word never becomes idle again, so that
// nobody starts another.
func (s *Stream) finish() {
	for _, stop := range s.stops {
		stop()
	}
	why := s.why.Load()
	s.conn.End(*why)
	s.sub.Close()
	s.cancel()
	s.logger.Debug(s.name+": stream ended", "reason", why.Name, "position", s.told)
	close(s.done)
}

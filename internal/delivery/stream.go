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
	"github.com/fanfare-go/fanfare/internal/stream"
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
	life   *life         // that, where the stream outlives its request; else nil
	done   chan struct{} // closed when the stream has ended
	stops  []func() bool
	detach func() // from what middleware holds for the stream

	asking     context.Context // the one of Grant.Snapshot: ends as soon as the stream is to end
	stopAsking context.CancelFunc

	word  atomic.Int32           // whether there is a writer, and whether it has to look again
	why   atomic.Pointer[Reason] // set once the stream is to end
	due   atomic.Bool            // a beat is due
	wrote atomic.Int64           // when something was written last, since began
	began time.Time
	every time.Duration // beats; 0: never

	// What follows is the writer's.
	told        broadcast.ID // the position that the client has
	opening     *batch       // what the first look found
	room        int          // how many messages the next Poll takes
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
	polled   int // of messages, that are not in frames yet
	frames   net.Buffers
	size     int // of frames
}

func (b *batch) add(frame []byte) {
	if frame != nil {
		b.frames = append(b.frames, frame)
		b.size += len(frame)
	}
}

// minRoom is how many messages a stream polls at first.
const minRoom = 16

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
	b.size, b.polled = 0, 0
	p.pool.Put(b)
}

func newStream(ctx context.Context, h Handler, codec *Codec) *Stream {
	s := &Stream{name: h.Name, logger: h.logger(), codec: codec, maxAge: h.MaxAge, done: make(chan struct{}), room: minRoom}
	if h.Detach {
		s.life, s.cancel = newLife(ctx)
		s.ctx = s.life
	} else {
		s.ctx, s.cancel = context.WithCancel(ctx)
	}
	s.asking, s.stopAsking = context.WithCancel(s.ctx)
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
	n, err := s.sub.Poll(b.messages[:s.room])
	if gap, ok := errors.AsType[*broadcast.GapError](err); ok {
		if err := s.tellGap(b, gap); err != nil {
			return err
		}
		b.polled = n
		return nil
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
		if n, err = s.sub.Poll(b.messages[:s.room]); err != nil && !errors.As(err, &gap) {
			return err
		}
		k = 0
	}
	s.tell(b, Control{Kind: Ready, ID: begin})
	if gap != nil {
		if err := s.tellGap(b, gap); err != nil {
			return err
		}
	}
	b.polled = copy(b.messages[:], b.messages[k:n])
	return nil
}

func behind(id, position broadcast.ID) bool {
	return id.Epoch() != position.Epoch() || id.Seq() > position.Seq()
}

// errUnspeakable ends a stream whose wire cannot tell a gap.
var errUnspeakable = errors.New("a gap cannot be told on this wire")

// encode makes frames of what was polled, and writes them as often as they are as
// much as one write takes: a client that does not read holds no more than that. It
// reports false once nothing may be written any more.
func (s *Stream) encode(b *batch) bool {
	size := b.size
	for i, m := range b.messages[:b.polled] {
		size += len(m.Data)
		b.messages[i] = nil
		if s.grant.Filter != nil && !s.passes(m) {
			continue
		}
		frame := s.codec.form(m, false).frame
		if frame == nil {
			continue
		}
		if b.size > 0 && b.size+len(frame) > maxWrite && !s.write(b) {
			return false
		}
		b.add(frame)
		s.told = m.ID
	}
	// One Poll takes about what one write does: what is held here may not be kept
	// by the log any more.
	switch {
	case size > maxWrite:
		s.room = max(1, b.polled*maxWrite/size)
	case b.polled == s.room:
		s.room = min(4*s.room, len(b.messages))
	}
	b.polled = 0
	return true
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
	frame := s.codec.control(c)
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
		state, err = s.grant.Snapshot(s.asking)
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
	s.conn, s.began, s.every = conn, time.Now(), interval
	s.endLater()
	if interval > 0 {
		s.beatLater()
	}
	if prologue != nil {
		s.opening.frames = append(net.Buffers{prologue}, s.opening.frames...)
	}
	if s.unspeakable {
		s.End(Unspeakable)
	}
	s.detach = stream.Attach(s.ctx, s.endAs)
	go s.run()
}

// Detach lets go of what the stream has of its request. Nobody asks for the values of
// its context any more.
func (s *Stream) Detach() {
	if s.life != nil {
		s.life.letGo()
	}
}

// endAs ends the stream as a middleware wants.
func (s *Stream) endAs(how stream.End) {
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
	s.stopAsking()
	err := guard("the asking for an end", func() error {
		if sub, ok := s.sub.(finisher); ok && why.Owed {
			sub.Finish()
		}
		s.conn.Closing()
		return nil
	})
	if err != nil {
		s.logger.Error(s.name+": ending a stream", "error", err)
	}
	s.notify()
}

// finisher is a Subscription that can end at what is in the log now.
type finisher interface{ Finish() }

// beatLater makes a beat due whenever nothing was written for as long as every.
func (s *Stream) beatLater() {
	var timer *time.Timer
	timer = time.AfterFunc(math.MaxInt64, func() {
		wait := s.every - s.silence()
		if wait <= 0 {
			wait = s.every
			s.due.Store(true)
			s.notify()
		}
		select {
		case <-s.done:
		default:
			timer.Reset(wait)
		}
	})
	s.stops = append(s.stops, timer.Stop)
	timer.Reset(s.every) // only now, when its function knows it
}

// silence is how long ago something was written.
func (s *Stream) silence() time.Duration {
	return time.Since(s.began) - time.Duration(s.wrote.Load())
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
	more := b.polled == s.room // what follows the opening goes out with it
	if !s.encode(b) || !more && !s.write(b) {
		return false
	}
	_, finishes := s.sub.(finisher)
	for {
		// Before the poll: what was in the log when the end was asked for is
		// still owed.
		why := s.why.Load()
		if why != nil && !why.Owed {
			return false
		}
		room := s.room
		n, err := s.sub.Poll(b.messages[:room])
		b.polled = n
		gap, _ := errors.AsType[*broadcast.GapError](err)
		if gap != nil {
			if err := s.tellGap(b, gap); err != nil {
				s.fail(Fault, err)
				return false
			}
		}
		if !s.encode(b) {
			return false
		}
		// With as many as there was room for more are waiting: they go out together.
		if (n < room || err != nil) && !s.write(b) {
			return false
		}
		switch {
		case errors.Is(err, broadcast.ErrClosed):
			s.End(Restart)
			return false
		case err != nil && gap == nil:
			s.fail(Fault, err)
			return false
		case why != nil && (n == 0 && gap == nil || !finishes):
			s.write(b)
			return false
		case n == 0 && gap == nil:
			return s.beat(b, true)
		case !s.beat(b, false): // a Filter may drop more than it lets pass
			return false
		}
	}
}

// beat does what a beat asks for, if one is due. Only when all that is in the log
// has been polled and written may it tell the position.
func (s *Stream) beat(b *batch, drained bool) bool {
	if !s.due.Swap(false) || s.silence() < s.every {
		return true
	}
	if position := s.sub.Position(); drained && position != s.told && s.tell(b, Control{Kind: Position, ID: position}) {
		return s.write(b)
	}
	if err := s.conn.Beat(); err != nil {
		s.fail(Failed, err)
		return false
	}
	s.wrote.Store(int64(time.Since(s.began)))
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
		s.wrote.Store(int64(time.Since(s.began)))
		if why := s.why.Load(); why != nil && !why.Owed {
			return false // such as a Grant that has expired while this write waited
		}
	}
	clear(b.frames)
	b.frames, b.size = b.frames[:0], 0
	return true
}

// fail ends the stream because of an error.
func (s *Stream) fail(why Reason, err error) {
	switch {
	case errors.Is(err, errUnspeakable):
		why = Unspeakable
	case why == Fault && s.why.Load() == nil:
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
	err := guard("the end of a stream", func() error {
		defer s.cancel()
		defer s.sub.Close()
		s.conn.End(*why)
		return nil
	})
	if err != nil {
		s.logger.Error(s.name+": ending a stream", "error", err)
	}
	s.logger.Debug(s.name+": stream ended", "reason", why.Name, "position", s.told)
	s.detach()
	close(s.done)
}

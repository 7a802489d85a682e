package delivery

import (
	"errors"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/guard"
)

// run is a turn of the writer. It reports whether the stream has ended.
func (s *Stream) run(w *Worker) (ended bool) {
	for {
		s.word.Store(writing)
		s.turn.Store(max(1, int64(s.clock.now())))
		more := false
		err := guard.Call("the stream's writer", func() error {
			more = s.drain(w)
			return nil
		})
		if err != nil {
			s.fail(Fault, err)
		}
		if !more {
			w.Wait()
			s.finish()
			return true
		}
		s.turn.Store(0)
		if s.word.CompareAndSwap(writing, idle) {
			return false
		}
	}
}

// drain writes until nothing is left. It reports false once the stream is over.
func (s *Stream) drain(w *Worker) bool {
	b := s.opening
	if s.opening = nil; b == nil {
		b = s.codec.batches.get()
	}
	defer s.codec.batches.put(b)
	more := b.polled == s.room // what follows the opening goes out with it
	if !s.encode(b, w) || !more && !s.write(b, w) {
		return false
	}
	if s.poll && s.news {
		s.End(Polled)
	}
	_, finishes := s.sub.(broadcast.Finisher)
	for {
		// Before the poll: what was in the log when the end was asked for is
		// still owed.
		why := s.asked()
		if why != nil && !why.Owed {
			if more { // the opening is still to go out: under SSE it has the head of the response
				s.write(b, w)
			}
			return false
		}
		more = false
		if topics := s.wanted.Swap(nil); topics != nil {
			w.Wait() // for the Grant
			if err := s.change(b, *topics); err != nil {
				s.fail(Fault, err)
				return false
			}
		}
		room := s.room
		n, err := s.sub.Poll(b.messages[:room])
		b.polled = n
		gap, _ := errors.AsType[*broadcast.GapError](err)
		if gap != nil {
			w.Wait() // for a Snapshot
			if err := s.tellGap(b, gap); err != nil {
				s.fail(Fault, err)
				return false
			}
		}
		if !s.encode(b, w) {
			return false
		}
		// With as many as there was room for more are waiting: they go out together.
		if (n < room || err != nil) && !s.write(b, w) {
			return false
		}
		if s.poll && s.news {
			s.End(Polled)
		}
		switch {
		case errors.Is(err, broadcast.ErrClosed):
			s.End(Restart)
			s.leave(b, w)
			return false
		case err != nil && gap == nil:
			s.fail(Fault, err)
			return false
		case why != nil && (n == 0 && gap == nil || !finishes):
			s.leave(b, w)
			return false
		case n == 0 && gap == nil:
			return s.beat(b, w)
		case !s.beat(b, w): // a Filter may drop more than it lets pass
			return false
		}
	}
}

// leave tells a client that has got all it was owed where it comes back to.
func (s *Stream) leave(b *batch, w *Worker) {
	if position := s.sub.Position(); position != s.told {
		s.tell(b, fanfare.Notice{Kind: fanfare.Position, ID: position})
	}
	s.write(b, w)
}

// beat does what a beat asks for, if one is due. All that was polled goes out before, or
// was dropped by a Filter: so it may tell the position.
func (s *Stream) beat(b *batch, w *Worker) bool {
	if !s.due.Swap(false) || s.silence(s.clock.now()) < s.every {
		return true
	}
	if position := s.sub.Position(); position != s.told || s.restless {
		s.tell(b, fanfare.Notice{Kind: fanfare.Position, ID: position})
	}
	if len(b.frames) > 0 { // also what waits for more: a detached stream's opening has the head of the response
		return s.write(b, w)
	}
	if err := s.conn.Beat(w); err != nil {
		s.fail(Failed, err)
		return false
	}
	s.wrote.Store(int64(s.clock.now()))
	return true
}

// write writes the frames of b. It reports false if the connection is gone.
func (s *Stream) write(b *batch, w *Worker) bool {
	for frames := b.frames; len(frames) > 0; {
		k, size := 1, len(frames[0])
		for k < len(frames) && size+len(frames[k]) <= maxWrite {
			size += len(frames[k])
			k++
		}
		if err := s.conn.Write(frames[:k:k], w); err != nil {
			s.fail(Failed, err)
			return false
		}
		frames = frames[k:]
		s.counts.cells[s.cell].bytes.Add(uint64(size))
		if len(frames) == 0 {
			s.counts.wrote(s.cell, b)
		}
		s.wrote.Store(int64(s.clock.now()))
		if why := s.asked(); why != nil && !why.Owed {
			return false // such as a Grant that has expired while this write waited
		}
	}
	b.reset()
	return true
}

// fail ends the stream because of an error.
func (s *Stream) fail(why Reason, err error) {
	switch {
	case errors.Is(err, errUnspeakable):
		why = Unspeakable
	case why == Fault && s.why.Load() == nil:
		s.codec.Logger.Error(s.codec.Name+": ended a stream", "error", err)
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
	if s.stop != nil {
		s.stop()
	}
	if s.server != nil {
		s.server.remove(s)
	}
	why := s.why.Load()
	err := guard.Call("the end of a stream", func() error {
		if s.cancel != nil {
			defer s.cancel()
		}
		defer s.sub.Close()
		s.conn.End(*why)
		return nil
	})
	if err != nil {
		s.codec.Logger.Error(s.codec.Name+": ending a stream", "error", err)
	}
	if why.Detail == "" {
		s.codec.Logger.Debug(s.codec.Name+": stream ended", "reason", why.Name, "position", s.told)
	} else {
		s.codec.Logger.Debug(s.codec.Name+": stream ended", "reason", why.Name, "detail", why.Detail, "position", s.told)
	}
	s.counts.end(why.Name)
	s.over.Store(true)
	s.clock.forget(s)
	if s.detach != nil {
		s.detach()
	}
	if done := s.done.Swap(closed); done != nil {
		close(*done)
	}
}

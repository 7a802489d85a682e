package delivery

import (
	"errors"
	"log/slog"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/guard"
	"github.com/fanfare-go/fanfare/internal/ratelog"
)

// run runs the writer until there is nothing left to send. It reports whether the
// stream has ended.
func (s *Stream) run(w *Worker) (ended bool) {
	for {
		s.signal.begin()
		s.worker = w
		s.turnBegan.Store(max(1, int64(w.beginTurn(&s.engine.clock))))
		ended, err := s.guardedTurn(w)
		if err != nil {
			s.fail(Fault, err)
		}
		if ended || err != nil {
			w.Wait()
			s.tearDown()
			return true
		}
		s.worker = nil // it serves other streams now
		s.turnBegan.Store(0)
		if s.signal.rest() {
			return false
		}
	}
}

// errExited is why a stream ends whose hook has called runtime.Goexit, as FailNow of a test
// does.
var errExited = errors.New("a hook has ended the goroutine that writes")

// guardedTurn is turn, and returns its panic. If a hook ends the goroutine, the stream ends
// with it, and another worker goes on with the other streams.
func (s *Stream) guardedTurn(w *Worker) (ended bool, err error) {
	b := s.firstBatch
	if s.firstBatch = nil; b == nil {
		b = s.engine.batches.get(w)
	}
	exits := true
	defer func() {
		p := recover()
		s.engine.batches.put(b, w)
		switch {
		case p != nil:
			err = guard.Panicked("the stream's writer", p)
		case exits:
			s.fail(Fault, errExited)
			w.Wait()
			s.tearDown()
		}
	}()
	ended = s.turn(b, w)
	exits = false
	return ended, nil
}

// next is how a turn of the writer goes on.
type next int

const (
	pollAgain next = iota // there may be more to send
	goIdle                // everything is sent: the turn ends, until the next notification
	leave                 // the stream ends, and the client has everything that it was to get
	gone                  // the stream ends, and nothing more may be written
)

// turn is one turn of the writer. It reports whether the stream has ended.
func (s *Stream) turn(b *batch, w *Worker) (ended bool) {
	if b.isFirst && !s.sendOpening(b, w) {
		return true
	}
	for {
		switch s.step(b, w) {
		case goIdle:
			return false
		case leave:
			s.sendLast(b, w)
			return true
		case gone:
			return true
		}
	}
}

// sendLast sends the position that the stream ends at.
func (s *Stream) sendLast(b *batch, w *Worker) {
	s.begin(b)
	if position := s.sub.Position(); position != s.sentPosition.get() {
		s.send(b, fanfare.Notice{Kind: fanfare.Position, ID: position})
	}
	s.write(b, w)
}

// sendOpening sends what the first poll found. It reports false once nothing more may
// be written.
func (s *Stream) sendOpening(b *batch, w *Worker) bool {
	full := b.polled == int(s.pollSize) // what follows goes out in the same write
	if !s.encode(b, w) || !full && !b.beginning && !s.write(b, w) {
		return false
	}
	s.endPolling()
	return true
}

// endPolling ends the stream of a client that polls, if it was sent something new.
func (s *Stream) endPolling() {
	if s.polling && s.sentNews {
		s.End(Polled)
	}
}

// step polls once, writes what came, and decides how the turn goes on.
func (s *Stream) step(b *batch, w *Worker) next {
	// Before the poll: what was in the log when the end was asked for is still sent.
	why := s.endReason()
	if why != nil && !why.Complete {
		return s.giveUp(b, w)
	}
	s.renew(b, w)
	if err := s.changeTopics(b, w); err != nil {
		s.fail(Fault, err)
		return s.giveUp(b, w)
	}
	size := int(s.pollSize)
	n, armed, err := s.poll(b.messages[:size])
	b.polled = n
	wasBeginning := b.beginning
	lost := err != nil && (errors.Is(err, broadcast.ErrGap) || errors.Is(err, broadcast.ErrBegin))
	if err := s.reportLoss(b, w, err); err != nil {
		s.fail(Fault, err)
		return s.giveUp(b, w)
	}
	if !s.encode(b, w) {
		return gone
	}
	if n == 0 && err == nil {
		s.begin(b) // no state is left
	}
	// A full buffer says that more messages wait: they go out in the same write.
	if (n < size || err != nil) && !b.beginning && !s.write(b, w) {
		return gone
	}
	s.endPolling()
	nothing := n == 0 && !lost
	switch {
	case err != nil && !lost:
		return s.endOfPolling(b, w, err)
	case why != nil && (nothing || !s.pollReportsEnd() && !b.beginning && !s.bare):
		return leave
	case !s.beat(b, w): // here too where messages came: a Filter may drop all of them
		return gone
	case nothing && !wasBeginning: // else a change of topics may wait
		return goIdle
	case armed && n < size && why == nil && !wasBeginning && s.isSettled():
		return goIdle
	}
	return pollAgain
}

// isSettled reports whether the client has all that goes with what was polled: nothing waits for
// a position after it, no beginning and no answer.
func (s *Stream) isSettled() bool {
	r := s.requests.Load()
	return !s.bare && !s.begins && (r == nil || r.answer == nil && r.renewal == nil)
}

// endOfPolling ends the stream because of an error of Poll.
func (s *Stream) endOfPolling(b *batch, w *Worker, err error) next {
	switch {
	case errors.Is(err, broadcast.ErrClosed):
		s.End(Restart)
	case errors.Is(err, broadcast.ErrEnded):
		s.begin(b)
		s.sendEnd(b)
		s.End(Ended)
	default:
		s.fail(Fault, err)
		return s.giveUp(b, w)
	}
	return leave
}

// reportLoss adds what a Poll has reported: a gap, or that topics begin.
func (s *Stream) reportLoss(b *batch, w *Worker, err error) error {
	if err == nil {
		if b.polled < int(s.pollSize) {
			s.begun = 0 // a round is complete
		}
		return nil
	}
	if gap, ok := errors.AsType[*broadcast.GapError](err); ok {
		if !s.begins {
			s.begin(b) // no Last message is left
		}
		s.hasNothing = false
		s.waitForSnapshot(w)
		return s.sendGap(b, gap)
	}
	if begin, ok := errors.AsType[*broadcast.BeginError](err); ok {
		s.waitForSnapshot(w)
		return s.sendBegin(b, begin)
	}
	return nil
}

// waitForSnapshot is called before a Snapshot, which may block.
func (s *Stream) waitForSnapshot(w *Worker) {
	if s.grant.Snapshot != nil {
		w.Wait()
	}
}

// sendEnd adds the notice that all topics have ended. A wire that has none gets the position.
func (s *Stream) sendEnd(b *batch) {
	n := fanfare.Notice{Kind: fanfare.End, ID: s.sub.Position()}
	if frame := s.encodeNotice(n); frame != nil {
		b.add(frame)
		s.sent(n.ID)
	}
}

// giveUp ends a stream at once. An opening that waits for what follows it is still
// written: it has the head of the response, without which the client would see no HTTP.
func (s *Stream) giveUp(b *batch, w *Worker) next {
	if b.isFirst {
		s.write(b, w)
	}
	return gone
}

// pollReportsEnd reports whether Poll itself reports the end that was asked for. Without
// a Finisher, one Poll after that has to be enough.
func (s *Stream) pollReportsEnd() bool {
	_, ok := s.sub.(broadcast.Finisher)
	return ok
}

// beat sends a heartbeat if one is due. Everything that was polled has been written, or
// dropped by a Filter: so a heartbeat may send the position. It reports false once
// nothing more may be written.
func (s *Stream) beat(b *batch, w *Worker) bool {
	if !s.beats.take(&s.engine.clock) {
		return true
	}
	if position := s.sub.Position(); !b.beginning && (position != s.sentPosition.get() || s.beats.always) {
		s.send(b, fanfare.Notice{Kind: fanfare.Position, ID: position})
	}
	if len(b.frames) > 0 { // the position, or an opening that waits for what follows it
		return s.write(b, w)
	}
	if err := s.conn.Beat(w); err != nil {
		s.fail(Failed, err)
		return false
	}
	s.wrote(w)
	return true
}

// wrote notes that something was written now. The first write of a turn that has not waited
// counts from the turn's beginning, to save a look at the clock: that is some microseconds ago.
func (s *Stream) wrote(w *Worker) {
	now := s.turnBegan.Load()
	if w.waits() || s.beats.wrote.Load() >= now {
		now = int64(s.engine.clock.now())
	}
	s.beats.wrote.Store(now)
}

// write writes the frames of b, at most maxWrite bytes at a time. It reports false once
// nothing more may be written.
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
		s.engine.counts.shards[s.shard].bytes.Add(uint64(size))
		if len(frames) == 0 {
			s.engine.counts.wrote(s.shard, b)
		}
		s.wrote(w)
		if why := s.endReason(); why != nil && !why.Complete {
			return false // for example, the Grant expired while this write waited
		}
	}
	b.reset()
	return true
}

// fail ends the stream because of an error.
func (s *Stream) fail(why Reason, err error) {
	if s.request != nil && s.request.Err() != nil {
		s.End(RequestEnded) // which a hook that it has stopped may report before the watch over it does
	}
	switch {
	case errors.Is(err, errGapNotSent):
		why = GapNotSent
	case errors.Is(err, broadcast.ErrSlow):
		why = Slow
	case why == Fault && s.ending.why.Load() == nil:
		s.report(slog.LevelError, "ended a stream", "error", err)
	}
	s.End(why)
	if why == Failed {
		// It replaces the reason that the end was asked for with: net/http ends a
		// request's context when a write of its response fails.
		s.ending.why.Store(&why)
	}
}

// tearDown is the writer's last act. It leaves the signal as it is, not idle, so that
// nothing starts another writer.
func (s *Stream) tearDown() {
	if s.request != nil {
		s.request.unwatch()
	}
	if s.server != nil {
		s.server.remove(s)
	}
	why := s.ending.why.Load()
	err := guard.Call("ending a stream", func() error {
		defer s.endLifetime()
		defer s.sub.Close()
		s.conn.End(*why)
		return nil
	})
	if err != nil {
		s.report(slog.LevelError, "ending a stream", "error", err)
	}
	s.engine.forms.leave(s.codec)
	attributes := []any{"reason", why.Name, "position", s.sentPosition.get()}
	if why.Detail != "" {
		attributes = []any{"reason", why.Name, "detail", ratelog.Cut(why.Detail), "position", s.sentPosition.get()}
	}
	_ = guard.Call("Logger", func() error {
		s.engine.log().Debug(s.engine.Name+": stream ended", attributes...)
		return nil
	})
	s.engine.counts.end(why.Name)
	s.engine.clock.forget(s)
	s.holds.Detach()
	s.ending.markEnded()
}

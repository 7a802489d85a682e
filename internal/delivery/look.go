package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/guard"
)

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
		clear(b.messages[:n])
		if n, err = s.sub.Poll(b.messages[:s.room]); err != nil && !errors.As(err, &gap) {
			return err
		}
		k = 0
	}
	s.tell(b, fanfare.Notice{Kind: fanfare.Ready, ID: begin})
	if gap != nil {
		if err := s.tellGap(b, gap); err != nil {
			return err
		}
	}
	b.polled = copy(b.messages[:], b.messages[k:n])
	clear(b.messages[b.polled:n])
	s.news = s.news || fresh
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
func (s *Stream) encode(b *batch, w *Worker) bool {
	size := b.size
	if s.grant.Filter != nil && b.polled > 0 {
		w.Wait() // it is the user's, and may
	}
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
		if b.size > 0 && b.size+len(frame) > maxWrite && !s.write(b, w) {
			return false
		}
		b.add(frame)
		b.count++
		if s.catching {
			b.replayed++
		}
		s.told, s.news = m.ID, true
	}
	s.catching = s.catching && b.polled == s.room
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
	told := fanfare.Notice{Kind: fanfare.Gap, ID: gap.ID, Topics: gap.Topics}
	if s.grant.Snapshot != nil {
		told.ID = lost
	}
	if s.news = true; !s.tell(b, told) {
		return errUnspeakable
	}
	b.gaps++
	if s.grant.Snapshot == nil {
		return nil
	}
	if err := s.snapshot(b); err != nil {
		return err
	}
	s.tell(b, fanfare.Notice{Kind: fanfare.Position, ID: gap.ID})
	return nil
}

// change gives the client other topics, if it is granted them, and answers with those
// that it has from here on. The state of what is new goes before the answer, as it does
// before where a stream begins.
func (s *Stream) change(b *batch, topics []string) error {
	sub, ok := s.sub.(broadcast.TopicSetter)
	var granted *fanfare.Grant
	err := guard.Call("Grant.Change", func() (err error) {
		if !ok {
			return fmt.Errorf("%s: the Broadcaster's Subscription has no SetTopics", s.codec.Name)
		}
		granted, err = s.grant.Change(topics)
		return err
	})
	if err == nil && granted == nil {
		err = fmt.Errorf("%s: Grant.Change returned neither a Grant nor an error", s.codec.Name)
	}
	if err == nil {
		if err = sub.SetTopics(granted.Topics); err != nil && !errors.Is(err, broadcast.ErrClosed) {
			err = &fanfare.Refusal{Status: http.StatusBadRequest, Err: err}
		}
	}
	answer := fanfare.Notice{Kind: fanfare.Topics, ID: s.sub.Position()}
	if err != nil {
		answer.Status, _ = status(err)
		level := slog.LevelInfo
		if answer.Status == http.StatusInternalServerError {
			level = slog.LevelError
		}
		s.codec.Logger.Log(context.Background(), level, s.codec.Name+": refused other topics", "status", answer.Status, "reason", err)
	} else {
		changed := *s.grant
		changed.Topics, changed.Filter, changed.Snapshot = granted.Topics, granted.Filter, granted.Snapshot
		if granted.Change != nil {
			changed.Change = granted.Change
		}
		s.grant = &changed
		if err := s.snapshot(b); err != nil {
			return err
		}
	}
	answer.Topics = s.grant.Topics
	s.tell(b, answer)
	return nil
}

// tell adds a notice, and reports whether it is sent at all.
func (s *Stream) tell(b *batch, n fanfare.Notice) bool {
	frame := s.codec.notice(n)
	b.add(frame)
	s.told = n.ID
	return frame != nil
}

func (s *Stream) snapshot(b *batch) error {
	if s.grant.Snapshot == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	s.stopAsking.Store(&cancel)
	if s.why.Load() != nil {
		cancel()
	}
	var state []broadcast.Message
	err := guard.Call("Grant.Snapshot", func() (err error) {
		state, err = s.grant.Snapshot(ctx)
		return err
	})
	for i := range state {
		if frame := s.codec.try(&state[i], true); frame != nil {
			b.add(frame)
			b.count++
		}
	}
	return err
}

func (s *Stream) add(b *batch, m *broadcast.Message, bare bool) {
	if s.grant.Filter != nil && !s.passes(m) {
		return
	}
	if frame := s.codec.form(m, bare).frame; frame != nil {
		b.add(frame)
		b.count++
		if !bare {
			s.told = m.ID
		}
	}
}

func (s *Stream) passes(m *broadcast.Message) (pass bool) {
	err := guard.Call("Grant.Filter", func() error {
		pass = s.grant.Filter(m)
		return nil
	})
	if err != nil && !s.codec.form(m, false).warned.Swap(true) {
		s.codec.Logger.Error(s.codec.Name+": dropped a message", "id", m.ID, "topic", m.Topic, "error", err)
	}
	return pass && err == nil
}

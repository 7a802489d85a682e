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
	"github.com/fanfare-go/fanfare/internal/ratelog"
)

// errGapNotSent ends a stream whose wire does not send gaps.
var errGapNotSent = errors.New("a gap is not sent on this wire")

// send adds a notice. It reports false if the codec leaves it out; the position counts
// as sent all the same.
func (s *Stream) send(b *batch, n fanfare.Notice) bool {
	frame := s.encodeNotice(n)
	b.add(frame)
	s.sentPosition = n.ID
	return frame != nil
}

// sendGap adds a gap that a poll has found. Where a snapshot follows, the stream goes on from
// now: the messages that were polled with the gap are older.
func (s *Stream) sendGap(b *batch, gap *broadcast.GapError) error {
	if sub, ok := s.sub.(broadcast.Skipper); ok && s.grant.Snapshot != nil {
		gap = &broadcast.GapError{ID: sub.Skip()}
		clear(b.messages[:b.polled])
		b.polled = 0
	}
	return s.addGap(b, gap)
}

// addGap adds a gap, and the snapshot that follows it. The gap then has a position that resumes
// as a gap, so that a client that is cut within the snapshot gets it again.
func (s *Stream) addGap(b *batch, gap *broadcast.GapError) error {
	s.sentNews = true
	n := fanfare.Notice{Kind: fanfare.Gap, ID: gap.ID, Topics: gap.Topics}
	if s.grant.Snapshot != nil {
		n.ID = unknown
	}
	if !s.send(b, n) {
		return errGapNotSent
	}
	b.gaps++
	if s.grant.Snapshot == nil {
		return nil
	}
	if err := s.snapshot(b); err != nil {
		return err
	}
	s.send(b, fanfare.Notice{Kind: fanfare.Position, ID: gap.ID})
	return nil
}

// snapshot adds the messages of the Grant's Snapshot, if it has one.
func (s *Stream) snapshot(b *batch) error {
	if s.grant.Snapshot == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	s.ending.stopSnapshot.Store(&cancel)
	defer s.ending.stopSnapshot.Store(nil)
	if s.ending.why.Load() != nil {
		cancel() // End came before there was something to stop
	}
	var state []broadcast.Message
	err := guard.Call("Grant.Snapshot", func() (err error) {
		state, err = s.grant.Snapshot(ctx)
		return err
	})
	for i := range state {
		if frame := s.encodeUnkept(&state[i]); frame != nil {
			b.addMessage(frame, false)
		}
	}
	return err
}

// changeTopics gives the client the topics that it has asked for, if it is granted
// them, and adds the answer. The state of the new topics goes before the answer, as
// it does before the position where a stream begins. A client that asks too often waits,
// and only its latest request counts.
func (s *Stream) changeTopics(b *batch, w *Worker) error {
	if s.wanted.Load() == nil || b.beginning || s.postponeChange() {
		return nil
	}
	wanted := s.wanted.Swap(nil)
	w.Wait() // for the Grant
	had := s.grant.Topics
	answer := fanfare.Notice{Kind: fanfare.Topics}
	if err := s.change(wanted.Topics); err != nil {
		refusal, err := refusalOf(err)
		answer.Status = refusal.Status
		level := slog.LevelInfo
		if answer.Status == http.StatusInternalServerError {
			level = slog.LevelError
		}
		kind := ratelog.Kind{Level: level, Message: s.engine.Name + ": refused other topics", Status: answer.Status}
		s.engine.reports.Write(context.Background(), s.engine.Logger, kind, "status", answer.Status, "reason", err)
	} else if err := s.beginTopics(b, had, wanted.After); err != nil {
		return err
	} else {
		answer.Topics = s.grant.Topics
	}
	answer.ID = s.sub.Position()
	s.send(b, answer)
	return nil
}

// beginTopics adds what goes before the answer to a change: the state of the new topics.
// A client that had its topics up to a position, on another connection, has that state,
// but gets a gap if topics that are new to this stream go on after a later position.
func (s *Stream) beginTopics(b *batch, had []string, upTo broadcast.ID) error {
	if upTo.IsZero() {
		return s.snapshot(b)
	}
	old := make(map[string]bool, len(had))
	for _, topic := range had {
		old[topic] = true
	}
	var added []string
	for _, topic := range s.grant.Topics {
		if !old[topic] {
			added = append(added, topic)
		}
	}
	if position := s.sub.Position(); len(added) > 0 && isAfter(position, upTo) {
		return s.addGap(b, &broadcast.GapError{ID: position, Topics: added})
	}
	return nil
}

// change asks the Grant for other topics and subscribes to what it returns. After an
// error the client has what it had.
func (s *Stream) change(topics []string) error {
	if s.grant.Change == nil {
		return &fanfare.Refusal{Status: http.StatusForbidden, Err: errors.New("the Grant has no Change")}
	}
	if len(topics) > maxTopics {
		return &fanfare.Refusal{Status: http.StatusBadRequest, Err: fmt.Errorf("%d topics, at most %d are allowed", len(topics), maxTopics)}
	}
	if _, ok := s.sub.(broadcast.TopicSetter); !ok {
		return fmt.Errorf("%s: %w", s.engine.Name, errNoTopicSetter)
	}
	var granted *fanfare.Grant
	err := guard.Call("Grant.Change", func() (err error) {
		granted, err = s.grant.Change(topics)
		return err
	})
	switch {
	case err != nil:
		return err
	case granted == nil:
		return fmt.Errorf("%s: Grant.Change returned neither a Grant nor an error", s.engine.Name)
	case len(granted.Topics) == 0 && granted.Change == nil:
		return &fanfare.Refusal{Status: http.StatusBadRequest, Err: errors.New("Grant.Change returned a Grant without Topics, and without a Change to get some")}
	}
	if err := s.setTopics(granted.Topics); errors.Is(err, broadcast.ErrClosed) || errors.Is(err, errNoTopicSetter) {
		return err
	} else if err != nil {
		return &fanfare.Refusal{Status: http.StatusBadRequest, Err: err}
	}
	changed := *s.grant
	changed.Topics, changed.Filter, changed.Snapshot = namesOf(s.sub, granted.Topics), granted.Filter, granted.Snapshot
	if granted.Change != nil {
		changed.Change = granted.Change
	}
	s.grant = &changed
	return nil
}

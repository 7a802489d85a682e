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
	s.sent(n.ID)
	return frame != nil
}

// sendLoss adds a gap or a beginning. Where the stream begins with it, it has what a Ready
// would have, since none precedes it.
func (s *Stream) sendLoss(b *batch, n fanfare.Notice) bool {
	if b.isFirst && len(b.frames) == 0 {
		n.Heartbeat, n.Expires = s.beats.interval, s.lifeLeft()
	}
	return s.send(b, n)
}

// sendGap adds a gap that a poll has found. A stream with a Snapshot begins again instead.
func (s *Stream) sendGap(b *batch, gap *broadcast.GapError) error {
	if s.grant.Snapshot != nil {
		return s.sendSnapshot(b, gap.ID)
	}
	s.sentNews = true
	if !s.sendLoss(b, fanfare.Notice{Kind: fanfare.Gap, ID: gap.ID, Topics: gap.Topics}) {
		return errGapNotSent
	}
	b.gaps++
	return nil
}

// sendBegin adds a beginning that a poll has reported. What it lacks the Snapshot has, if
// there is one.
func (s *Stream) sendBegin(b *batch, begin *broadcast.BeginError) error {
	if answer := s.topicsAnswer(); answer != nil && answer.waits {
		answer.waits = false
		s.hasNothing = !s.begins && answer.adds(begin.Topics)
	}
	if _, ok := s.skipper(); ok && s.grant.Snapshot != nil && begin.Partial != nil {
		return s.sendSnapshot(b, s.sub.Position())
	}
	b.beginsAfter = unknown // until it is complete
	return s.addBegin(b, begin.Topics, begin.Partial)
}

// addBegin adds the notice that topics begin; nil: all of them. Its position resumes as a
// loss, so that a client which is cut in the beginning gets it again. A wire that sends no
// such notice may leave it out only if the client has nothing of these topics.
func (s *Stream) addBegin(b *batch, topics, partial []string) error {
	first := s.hasNothing
	s.hasNothing, s.begins, s.bare = false, true, true
	begin := fanfare.Notice{Kind: fanfare.Begin, ID: unknown, Topics: topics, Partial: partial}
	if !s.sendLoss(b, begin) && !first {
		return errGapNotSent
	}
	if !first {
		b.gaps++
	}
	return nil
}

// maxSnapshots is how often a stream begins with its Snapshot until another round is
// completed. A client that is too slow for it would otherwise call it for ever.
const maxSnapshots = 3

// sendSnapshot adds a beginning of all topics, which is the Snapshot, and the position that
// follows. The stream goes on from now: what was polled is older. A subscription that is no
// Skipper goes on after a position.
func (s *Stream) sendSnapshot(b *batch, after broadcast.ID) error {
	if s.begun == maxSnapshots {
		return broadcast.ErrSlow
	}
	s.begun++
	if sub, ok := s.skipper(); ok {
		after = sub.Skip()
		clear(b.messages[:b.polled])
		b.polled = 0
	}
	if err := s.addBegin(b, nil, nil); err != nil {
		return err
	}
	if err := s.snapshot(b); err != nil {
		return err
	}
	s.begins, s.bare, s.sentNews = false, false, true
	switch {
	case b.beginning:
		b.beginsAfter = after
		s.begin(b)
	case s.topicsAnswer() != nil:
		s.answerChange(b, after)
	default:
		s.send(b, fanfare.Notice{Kind: fanfare.Position, ID: after})
	}
	return nil
}

// skipper returns the subscription as one that can go on from now.
func (s *Stream) skipper() (broadcast.Skipper, bool) {
	sub := s.sub
	if l, ok := sub.(*lobby); ok {
		sub = *l.current.Load()
	}
	skipper, ok := sub.(broadcast.Skipper)
	return skipper, ok
}

// settle sends the position if that has passed messages which have gone out without their
// IDs. had is the position that the client had before the poll.
func (s *Stream) settle(b *batch, had, position broadcast.ID) {
	if isUnknown(position) || position == had {
		s.bare = true // it is still due
		return
	}
	s.begins, s.sentNews = false, true
	switch {
	case position == s.sentPosition.get(): // a message has it
	case b.beginning:
		b.beginsAfter = position
		s.begin(b)
	case s.topicsAnswer() == nil:
		s.send(b, fanfare.Notice{Kind: fanfare.Position, ID: position})
	}
}

// answerChange sends the answer to a change of topics, if it need not wait any more.
func (s *Stream) answerChange(b *batch, position broadcast.ID) {
	answer := s.topicsAnswer()
	if answer == nil || answer.waits || s.grant.Beginning && isUnknown(position) {
		return
	}
	s.send(b, fanfare.Notice{Kind: fanfare.Topics, ID: position, Topics: answer.topics})
	s.requests.Load().answer = nil
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
// them. The state of the new topics goes before the answer, as it does before the position
// where a stream begins. A client that asks too often waits, and only its latest request
// counts.
func (s *Stream) changeTopics(b *batch, w *Worker) error {
	r := s.requests.Load()
	if r == nil || r.wanted.Load() == nil || b.beginning || r.postpone(s) {
		return nil
	}
	wanted := r.wanted.Swap(nil)
	w.Wait() // for the Grant
	had := s.grant.Topics
	begins, err := s.change(wanted)
	if err != nil {
		s.refuseChange(b, err)
		return nil
	}
	return s.beginTopics(b, had, wanted.After, begins)
}

// refuseChange answers a change of topics that is refused.
func (s *Stream) refuseChange(b *batch, err error) {
	refusal, err := refusalOf(err)
	level := slog.LevelInfo
	if refusal.Status == http.StatusInternalServerError {
		level = slog.LevelError
	}
	kind := ratelog.Kind{Level: level, Message: s.engine.Name + ": refused other topics", Status: refusal.Status}
	s.engine.reports.Write(context.Background(), s.engine.Logger, kind, "status", refusal.Status, "reason", err)
	s.send(b, fanfare.Notice{Kind: fanfare.Topics, ID: s.sub.Position(), Status: refusal.Status})
}

// beginTopics adds what goes before the answer to a change, and the answer: the Snapshot of
// all topics, or with Grant.Beginning what the new topics keep, which the Polls that follow
// return. A client that had its topics up to a position, on another connection, has that
// state, but begins again, or gets a gap, if topics that are new to this stream go on after a
// later position.
func (s *Stream) beginTopics(b *batch, had []string, upTo broadcast.ID, begins bool) error {
	old := make(map[string]bool, len(had))
	for _, topic := range had {
		old[topic] = true
	}
	r := s.requests.Load()
	if r.answer != nil && r.answer.waits { // the client has nothing yet of what it got then
		for _, topic := range r.answer.added {
			delete(old, topic)
		}
		begins = true
	}
	var added []string
	for _, topic := range s.grant.Topics {
		if !old[topic] {
			added = append(added, topic)
		}
	}
	position := s.sub.Position()
	r.answer = &topicsAnswer{topics: s.grant.Topics, added: added}
	missed := len(added) > 0 && isAfter(position, upTo) && !upTo.IsZero()
	switch {
	case s.grant.Beginning:
		r.answer.waits = begins && len(added) > 0
		return nil
	case s.grant.Snapshot != nil && (missed || upTo.IsZero()):
		s.hasNothing, s.begun = !missed, 0
		return s.sendSnapshot(b, position)
	case missed:
		if err := s.sendGap(b, &broadcast.GapError{ID: position, Topics: added}); err != nil {
			return err
		}
	}
	s.answerChange(b, position)
	return nil
}

// change asks the Grant for other topics and subscribes to what it returns. After an
// error the client has what it had. It reports whether the next Poll says that those topics
// begin which the client did not have.
func (s *Stream) change(wanted *TopicsRequest) (begins bool, err error) {
	topics := wanted.Topics
	if s.grant.Change == nil {
		return false, &fanfare.Refusal{Status: http.StatusForbidden, Err: errors.New("the Grant has no Change")}
	}
	if len(topics) > maxTopics {
		return false, &fanfare.Refusal{Status: http.StatusBadRequest, Err: fmt.Errorf("%d topics, at most %d are allowed", len(topics), maxTopics)}
	}
	if _, ok := s.sub.(broadcast.TopicSetter); !ok {
		return false, fmt.Errorf("%s: %w", s.engine.Name, errNoTopicSetter)
	}
	var granted *fanfare.Grant
	err = guard.Call("Grant.Change", func() (err error) {
		granted, err = s.grant.Change(topics)
		return err
	})
	switch {
	case err != nil:
		return false, err
	case granted == nil:
		return false, fmt.Errorf("%s: Grant.Change returned neither a Grant nor an error", s.engine.Name)
	case len(granted.Topics) == 0 && granted.Change == nil:
		return false, &fanfare.Refusal{Status: http.StatusBadRequest, Err: errors.New("Grant.Change returned a Grant without Topics, and without a Change to get some")}
	}
	begins, err = s.setTopics(granted.Topics, wanted.After)
	if errors.Is(err, broadcast.ErrClosed) || errors.Is(err, errNoTopicSetter) {
		return false, err
	} else if err != nil {
		return false, &fanfare.Refusal{Status: http.StatusBadRequest, Err: err}
	}
	changed := *s.grant
	changed.Topics, changed.Filter, changed.Snapshot = namesOf(s.sub, granted.Topics), granted.Filter, granted.Snapshot
	if granted.Change != nil {
		changed.Change = granted.Change
	}
	s.grant = &changed
	return begins, nil
}

package delivery

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/fanfare-go/fanfare/broadcast"
)

// newNowhere returns a topic to which nobody publishes, since nobody can guess its name. A
// stream without topics subscribes to it: so it has a position that moves with the log,
// and ends with the Broadcaster, like any other.
func newNowhere() string { return "no topics " + rand.Text() }

// orNowhere returns topics, or nowhere alone if there are none.
func (e *Engine) orNowhere(topics []string) []string {
	if len(topics) == 0 {
		return []string{e.nowhere}
	}
	return topics
}

// poll polls the subscription, and reports whether Notify will be called for what comes next. It
// leaves out gaps and beginnings of nowhere, where nothing can be lost.
func (s *Stream) poll(messages []*broadcast.Message) (n int, armed bool, err error) {
	for {
		n, armed, err = pollAndArm(s.sub, messages)
		var topics []string
		if gap, ok := errors.AsType[*broadcast.GapError](err); ok {
			topics = gap.Topics
		} else if errors.Is(err, broadcast.ErrBegin) && s.grant.Change != nil {
			topics = s.engine.orNowhere(s.grant.Topics)
		}
		if !slices.Equal(topics, []string{s.engine.nowhere}) {
			return n, armed, err
		}
		if n > 0 {
			return n, armed, nil
		}
	}
}

// pollAndArm polls a subscription. A Hub's can arm Notify with the last messages; another does
// that with a Poll that returns nothing.
func pollAndArm(sub broadcast.Subscription, messages []*broadcast.Message) (n int, armed bool, err error) {
	type armer interface {
		PollAndArm([]*broadcast.Message) (n int, armed bool, err error)
	}
	if sub, ok := sub.(armer); ok {
		return sub.PollAndArm(messages)
	}
	n, err = sub.Poll(messages)
	return n, n == 0 && err == nil, err
}

// subscribe opens the stream's subscription.
func (s *Stream) subscribe(ctx context.Context, after broadcast.ID) (broadcast.Subscription, error) {
	options := broadcast.SubscribeOptions{
		Topics:    s.engine.orNowhere(s.grant.Topics),
		After:     after,
		Last:      s.grant.Last,
		Beginning: s.grant.Beginning,
		Notify:    s.notify,
	}
	if len(s.grant.Topics) > 0 {
		return s.engine.Broadcaster.Subscribe(ctx, options)
	}
	options.Last, options.Beginning = 0, false
	sub, err := s.engine.Broadcaster.Subscribe(ctx, options)
	if err != nil {
		return nil, err
	}
	l := &lobby{broadcaster: s.engine.Broadcaster, notify: s.notify}
	l.current.Store(&sub)
	return l, nil
}

// setTopics gives the stream's subscription other topics. The client had them up to a
// position, on another connection; zero: it did not. It reports whether the next Poll says
// that those which are new begin.
func (s *Stream) setTopics(topics []string, upTo broadcast.ID) (begins bool, err error) {
	topics = s.engine.orNowhere(topics)
	l, ok := s.sub.(*lobby)
	switch {
	case !ok || l.left || s.sentPosition.get() == unknown && !s.grant.Beginning:
		return s.grant.Beginning, s.sub.(broadcast.TopicSetter).SetTopics(topics)
	case topics[0] == s.engine.nowhere:
		return false, nil
	case !s.grant.Beginning:
		return false, l.enter(s.Context(), topics, s.sentPosition.get(), false)
	case upTo.IsZero() || isAfter(s.sentPosition.get(), upTo):
		return true, l.enter(s.Context(), topics, broadcast.ID{}, true)
	}
	return false, l.enter(s.Context(), topics, s.sentPosition.get(), true)
}

// lobby is the subscription of a stream that began without topics. The first topics that
// it gets are resumed after the position that was sent to the client, not after that of
// the subscription to nowhere, which moves whenever it is polled: a client that comes back
// and asks for its topics again gets all that it missed.
type lobby struct {
	broadcaster broadcast.Broadcaster
	notify      func()
	left        bool // it has had topics; owned by the goroutine that polls

	current  atomic.Pointer[broadcast.Subscription]
	finished atomic.Bool // Finish was called
}

var (
	_ broadcast.Finisher    = (*lobby)(nil)
	_ broadcast.TopicSetter = (*lobby)(nil)
)

// enter subscribes to the first topics.
func (l *lobby) enter(ctx context.Context, topics []string, after broadcast.ID, beginning bool) error {
	sub, err := l.broadcaster.Subscribe(ctx, broadcast.SubscribeOptions{Topics: topics, After: after, Beginning: beginning, Notify: l.notify})
	if err != nil {
		return err
	}
	l.left = true
	nowhere := *l.current.Swap(&sub)
	if l.finished.Load() { // Finish may have found the one before
		l.Finish()
	}
	return nowhere.Close()
}

func (l *lobby) Poll(messages []*broadcast.Message) (int, error) {
	return (*l.current.Load()).Poll(messages)
}

func (l *lobby) Position() broadcast.ID { return (*l.current.Load()).Position() }

// Close implements broadcast.Subscription. The goroutine that polls calls it.
func (l *lobby) Close() error { return (*l.current.Load()).Close() }

// Finish implements broadcast.Finisher.
func (l *lobby) Finish() {
	l.finished.Store(true)
	if sub, ok := (*l.current.Load()).(broadcast.Finisher); ok {
		sub.Finish()
	}
}

// errNoTopicSetter refuses a change where the Broadcaster does not support it.
var errNoTopicSetter = errors.New("the Broadcaster's Subscription is no broadcast.TopicSetter")

// SetTopics implements broadcast.TopicSetter.
func (l *lobby) SetTopics(topics []string) error {
	sub, ok := (*l.current.Load()).(broadcast.TopicSetter)
	if !ok {
		return errNoTopicSetter
	}
	if err := sub.SetTopics(topics); err != nil {
		return err
	}
	l.left = true
	return nil
}

package broadcast

import "context"

// Broadcaster is all that a handler needs. [Hub] is one.
//
// It is one log of messages in several topics. Each subscription returns the messages of its
// topics that were published after its position, exactly once and in the order of their IDs.
// If some were lost it returns [ErrGap] with the messages that follow. Publish never waits for
// a subscription, and Poll never waits for a message: Notify says when to poll again.
//
// Package [github.com/fanfare-go/fanfare/broadcast/broadcasttest] lists the rules in full,
// and its TestBroadcaster checks them, case by case.
type Broadcaster interface {
	// Publish appends m to the log and returns its ID. It never waits for
	// subscribers; ctx bounds the wait for an engine outside the process. The
	// error wraps [ErrNotPublished] if the message surely does not arrive; after any
	// other error it may. m.Data must not change afterwards.
	Publish(ctx context.Context, m Message) (ID, error)

	// Subscribe opens a subscription, which the caller closes. ctx bounds the
	// call only.
	Subscribe(ctx context.Context, opts SubscribeOptions) (Subscription, error)
}

// SubscribeOptions says what a subscription gets.
type SubscribeOptions struct {
	// Topics are exact names, 1 to 1,000.
	Topics []string

	// After is the position to resume from: messages after it are returned. If zero,
	// those that are published from now on.
	After ID

	// Last is how many of the newest kept messages of each topic are returned first
	// to a subscription that does not resume. Position is after them from the start.
	// A message that is evicted before Poll has returned it is left out, with ErrGap after
	// the others unless newer ones make up for it. If zero, none; a negative Last is an
	// error.
	Last int

	// Beginning lets a subscription that does not resume begin with all that each topic keeps:
	// its events, from the newest with First on, then the value of each Key. Poll returns
	// [ErrBegin] (a [*BeginError]) with the first of these messages. Until the Poll that
	// follows the last of them Position is one that resumes as a loss. The subscription gets
	// no gap, also if it resumes: where one would be due it begins again in all topics. A
	// fourth time in a row is [ErrSlow] instead. Last has no effect then.
	Beginning bool

	// Notify is called at least once when there is something to return after an empty
	// Poll. It may also be called without cause, and at the same time as Poll; one
	// call may still come after Close. It must not block and must not call the
	// Broadcaster. If nil, the caller has to poll without being notified.
	Notify func()
}

// Subscription is a cursor on the log.
//
// Poll and Position belong to one goroutine at a time; Close may be called at
// any time, more than once.
//
// A Subscription may also be a [Finisher], a [TopicSetter] and a [Skipper]. Handlers find these
// by type assertion; a Hub's subscription is all of them.
type Subscription interface {
	// Poll fills buf with the messages after the position, in order, and returns how
	// many there are. It does not block. Only a Poll without a message and without an
	// error means that nothing is left; it arms Notify.
	//
	// [ErrGap] (a [*GapError]) says that messages were lost; it comes together
	// with the messages that follow the loss, if there are any. [ErrClosed]
	// comes after the last message, and so does [ErrEnded] once all topics have ended.
	//
	// Of each Key a Poll returns what is the newest then, so that a reader which is slow skips
	// what was replaced. If not all that has changed fits in buf, the Polls that follow return
	// it: first the Keys, each as it is when it is its turn, while Position stays where it was,
	// then the events.
	Poll(buf []*Message) (int, error)

	// Position is where to resume: every message up to it has been returned, or never
	// will be. A message whose ID is after Position, once Poll has returned, is sent to a
	// client without its ID. It is as of the last Poll, and never before SubscribeOptions.After.
	Position() ID

	// Close ends the subscription. Its error is always nil for a Hub's.
	Close() error
}

// Finisher is a [Subscription] that can be asked to end. A stream whose subscription is none
// sends what one more Poll returns, and ends.
type Finisher interface {
	// Finish lets Poll return what is in the log now, and then [ErrClosed]. It may be
	// called at any time, more than once.
	Finish()
}

// TopicSetter is a [Subscription] whose topics can be replaced. A stream whose subscription is
// none keeps its topics until it ends.
type TopicSetter interface {
	// SetTopics replaces the topics, 1 to 1,000, from Position on. Topics that are new
	// are resumed after it. On a subscription with Beginning they begin, and so do those
	// whose beginning is interrupted: the next Poll returns [ErrBegin] and names them, the other
	// topics go on where they are, and Position is unknown until all of that has been
	// returned. SetTopics belongs to the goroutine that polls.
	SetTopics(topics []string) error
}

// Skipper is a [Subscription] that can go on from now. A stream whose client gets a snapshot of its
// state after a gap uses it before the snapshot is taken, since messages that are older than that
// must not follow it. A stream whose subscription is none goes on from the oldest kept message.
type Skipper interface {
	// Skip lets the next Poll go on after what is the newest message of the log now, and returns
	// that position. What is left out is not reported as lost. It belongs to the goroutine
	// that polls.
	Skip() ID
}

package broadcast

import "context"

// Broadcaster is all that a handler needs. [Hub] is one.
//
// It is one log of messages in several topics. Each subscription returns the messages of its
// topics that were published after its position, exactly once and in the order of their IDs,
// or [ErrGap] before the message that follows a loss. Publish never waits for a subscription,
// and Poll never waits for a message: Notify says when to poll again.
//
// Package [github.com/fanfare-go/fanfare/broadcast/broadcasttest] lists the rules in full,
// and its TestBroadcaster checks them, case by case.
type Broadcaster interface {
	// Publish appends m to the log and returns its ID. It never waits for
	// subscribers; ctx bounds the wait for an engine outside the process. The
	// error wraps [ErrNotPublished] where the message surely does not arrive.
	// m.Data must not change afterwards.
	Publish(ctx context.Context, m Message) (ID, error)

	// Subscribe opens a subscription, which the caller closes. ctx bounds the
	// call only.
	Subscribe(ctx context.Context, opts SubscribeOptions) (Subscription, error)
}

// SubscribeOptions says what a subscription gets.
type SubscribeOptions struct {
	// Topics are exact names, 1 to 1,000.
	Topics []string

	// After is the position to resume behind. If zero, from now on.
	After ID

	// Last, with a zero After, lets the subscription begin with the newest Last
	// kept messages of each topic; Position is behind them from the start. If
	// zero, none.
	Last int

	// Notify is called at least once after Poll would return something, once
	// an empty Poll has armed it. It may also be called without cause, and at
	// the same time as Poll; one call may still come after Close. It must not
	// block and must not call the Broadcaster. If nil, nobody is woken.
	Notify func()
}

// Subscription is a cursor on the log.
//
// Poll and Position belong to one goroutine at a time; Close may be called at
// any time, more than once.
//
// A Subscription may also be a [Finisher] and a [TopicSetter], which handlers find by
// assertion; a Hub's is both.
type Subscription interface {
	// Poll fills buf with what has arrived behind the position, in order, and
	// returns how many messages that are. It does not block. Fewer than
	// len(buf) does not mean that nothing is left; no message and no error does,
	// and arms Notify.
	//
	// [ErrGap] (a [*GapError]) says that messages were lost; it comes together
	// with the messages that follow the loss, if there are any. [ErrClosed]
	// comes after the last message.
	Poll(buf []*Message) (int, error)

	// Position is the place up to which everything has been returned, or never
	// will be: where to resume. It is as of the last Poll, and never lies before
	// SubscribeOptions.After.
	Position() ID

	// Close ends the subscription. Its error is always nil for a Hub's.
	Close() error
}

// Finisher is a [Subscription] that can be asked to end. Without it a stream that is
// asked to end sends what one last Poll returns.
type Finisher interface {
	// Finish lets Poll return what is in the log now, and then [ErrClosed]. It may be
	// called at any time, more than once.
	Finish()
}

// TopicSetter is a [Subscription] that can go on with other topics. Without it a client
// keeps its topics for as long as its stream.
type TopicSetter interface {
	// SetTopics replaces the topics, 1 to 1,000, from Position on: new ones are resumed
	// after it. It belongs to the goroutine that polls.
	SetTopics(topics []string) error
}

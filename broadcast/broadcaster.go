package broadcast

import "context"

// Broadcaster is all that a handler needs. [Hub] is one; the rules below are
// what others must keep, and broadcasttest.TestBroadcaster checks them, case by
// case under the same names.
//
//   - publish: A message comes with the ID that Publish returned and with all
//     its fields; an ID that the publisher set is ignored.
//   - order: Messages come exactly once and in the order of their IDs, over
//     all topics of a subscription.
//   - between topics: A Poll between two publishes on two topics skips neither
//     message.
//   - several publishers: With several publishers at once, all subscriptions
//     get the same messages in the same order.
//   - one log: What one subscription has returned, the next Poll of any other
//     on the topic finds.
//   - same message: A message is the same *Message for every subscription.
//   - exact topics: Topics are exact names: nothing in them stands for others,
//     and all that is valid can be used.
//   - duplicate topics: A topic that SubscribeOptions names twice delivers
//     once.
//   - small buffers: Whatever the size of its buffer, Poll returns everything,
//     each message once.
//   - empty poll: Only a Poll without a message and without an error says that
//     nothing is left; one that returns fewer than fit does not.
//   - from now on: With a zero After nothing comes whose Publish had returned
//     before Subscribe.
//   - resume: Behind an ID comes exactly what followed it.
//   - resume other topics: A resume on other topics gets what was published
//     there after the position.
//   - resume where a stream began: A subscription's Position resumes it
//     exactly even before its first Poll.
//   - cut: A client that is cut between any two writes and resumes behind the
//     last place it was told misses nothing and gets nothing twice.
//   - position when drained: After an empty Poll, Position is the head of the
//     log: past messages of other topics too.
//   - position in a batch: Position is as of the last Poll: never past a
//     message that has not been returned, and never the log's head meanwhile.
//   - position when not woken: A Poll may come at any time, whether or not
//     Notify was called, and Position is never past a message that a later
//     Poll returns.
//   - position and after: Position never lies before After, and is never the
//     zero ID.
//   - notify not before an empty poll: Notify is not called before the first
//     empty Poll.
//   - notify: After an empty Poll, Notify is called at least once when there
//     is something to return.
//   - no lost wake-up: A message published between an empty Poll and the sleep
//     that follows it calls Notify.
//   - notify holds no lock: While Notify runs, Poll, Position and Close can be
//     called and return.
//   - notify during close: Close may run at the same time as Notify; at most
//     one call comes after it.
//   - close: Close may be called at any time, also during a Poll and more than
//     once; Poll after it returns ErrClosed.
//   - slow subscriber: Publish never waits for a subscriber, even one that
//     never polls.
//   - overrun: A subscription that is overrun gets ErrGap together with all
//     that is kept; GapError.ID is just before the first of it.
//   - overrun of one topic: A loss in one topic does not lose what is kept of
//     the others.
//   - overrun again: Each loss is told once, before the message that follows
//     it, and each Poll that tells one makes progress.
//   - overrun in motion: While messages rush by a slow subscription, none is
//     missing without a gap and no gap is told without a loss.
//   - gap once: A gap is told once for each subscription, and again to one
//     that resumes from before it.
//   - resume too old: A resume from before what is kept gets a gap and then
//     all that is kept, unless it gets all that followed.
//   - other epoch: An ID of another epoch is a gap, followed by all that is
//     kept.
//   - unknown position: An ID of the reserved epoch 1 is a gap, followed by
//     all that is kept.
//   - future: An ID ahead of the log is a gap, and what is published from then
//     on follows.
//   - last: With a zero After and Last, the newest Last messages that are kept
//     of each topic come first, in order, then what follows, with nothing
//     missing in between.
//   - last and position: Position is behind the Last messages from the start:
//     a client that is cut among them and resumes does not get them again.
//   - last and after: Last has no effect on a subscription that resumes.
//   - set topics: A Subscription's SetTopics, if it has one, gives it other
//     topics from Position on: what stays loses nothing, of what is new comes
//     exactly what was published behind Position, and of what is left out
//     nothing more.
//   - set topics and notify: Whoever waits for Notify is called when SetTopics
//     has given it something new to look at, and for all that follows.
//   - set topics and gap: Where a topic that is new has lost something behind
//     Position, a gap is told, once, before what follows.
//   - invalid message: A message that could not be written to a client is
//     refused with ErrNotPublished, and never comes.
//   - invalid topics: Subscribe refuses no topic, more than 1,000, and any
//     that is invalid.
//   - ended context: With a context that has ended, Publish returns its error
//     and ErrNotPublished, and Subscribe its error.
//   - context of the call: The context of Subscribe bounds the call only.
//   - end of the broadcaster: A Broadcaster's Close, if it has one, leaves
//     subscriptions what is kept for them, then ErrClosed with a call of
//     Notify; Publish and Subscribe are refused.
//   - end of a subscription: A Subscription's Finish, if it has one, leaves
//     what is in the log by then, then ErrClosed with a call of Notify.
//   - restart: After a restart a resume gets exactly what followed its ID, or
//     is told of a gap.
//   - no ID twice: After a restart no ID is given again.
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

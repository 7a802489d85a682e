// Package broadcasttest helps to test what implements or uses package broadcast.
//
// [TestBroadcaster] and [TestJournal] are conformance suites: what passes them keeps the
// promises that handlers, and a Hub, rely on. Each case has a name and a rule, which it logs
// when it fails. A case waits at most ten seconds for what must happen, and never for
// something not to happen: a slow engine does not fail it.
//
// [Journal] is a journal in memory with faults, for tests of several servers and of an
// engine that fails. [Recorder] records what is published.
//
// # Rules of a Broadcaster
//
// A [broadcast.Broadcaster] keeps these rules. TestBroadcaster checks each of them, in a case
// of the same name.
//
//   - publish: A message arrives with the ID that Publish returned and with all its
//     fields; an ID that the publisher set is ignored.
//   - order: Messages are returned exactly once and in the order of their IDs, over all
//     topics of a subscription.
//   - between topics: A Poll between two publishes on two topics skips neither message.
//   - several publishers: With several publishers at once, all subscriptions get the
//     same messages in the same order.
//   - one log: A message that one subscription has returned is returned by the next
//     Poll of any other on the topic.
//   - same message: A message is the same *Message for every subscription.
//   - exact topics: Topics are exact names: there are no wildcards, and any valid name
//     can be used.
//   - duplicate topics: Messages of a topic that SubscribeOptions names twice are
//     returned once.
//   - small buffers: Poll returns each message once, whatever the size of its buffer.
//   - empty poll: Only a Poll without a message and without an error means that nothing
//     is left; one that returns fewer messages than fit does not.
//   - from now on: With a zero After, no message is returned whose Publish had returned
//     before Subscribe was called.
//   - resume: A resume from an ID returns exactly what followed it.
//   - resume other topics: A resume on other topics returns what was published there
//     after the position.
//   - resume where a stream began: A subscription's Position resumes it exactly, even
//     before its first Poll.
//   - cut: A client that is cut between any two writes and resumes after the last
//     position that it was sent misses nothing and gets nothing twice.
//   - position when drained: After an empty Poll, Position is the head of the log, even
//     if that is a message of another topic.
//   - position in a batch: Position is as of the last Poll: while messages are left, it
//     is neither past one that has not been returned nor the log's head.
//   - position when not woken: Poll may be called at any time, whether or not Notify
//     was called, and Position is never past a message that a later Poll returns.
//   - position and after: Position is never before After, and never the zero ID.
//   - notify not before an empty poll: Notify is not called before the first empty
//     Poll.
//   - notify: After an empty Poll, Notify is called at least once when there is
//     something to return.
//   - no lost wake-up: A message that is published between an empty Poll and the sleep
//     that follows it calls Notify.
//   - notify holds no lock: While Notify runs, Poll, Position and Close can be called
//     and return.
//   - notify during close: Close may run at the same time as Notify; at most one call
//     comes after it.
//   - close: Close may be called at any time, even during a Poll and more than once;
//     Poll after it returns ErrClosed.
//   - slow subscriber: Publish never waits for a subscriber, even one that never polls.
//   - overrun: A subscription that is overrun gets ErrGap together with all that is
//     kept; GapError.ID is just before the first of it.
//   - overrun of one topic: A loss in one topic does not lose what is kept of the
//     others.
//   - overrun again: Each loss is reported once, before the message that follows it,
//     and each Poll that reports one makes progress.
//   - overrun in motion: While messages are published faster than a subscription polls,
//     none is missing without a gap, and no gap is reported without a loss.
//   - gap once: A gap is reported once to each subscription, and again to one that
//     resumes from before it.
//   - resume too old: A resume from before what is kept gets a gap and then all that is
//     kept, unless it gets all that followed.
//   - other epoch: An ID of another epoch is a gap, followed by all that is kept.
//   - unknown position: An ID of the reserved epoch 1 is a gap, followed by all that is
//     kept.
//   - future: An ID ahead of the log is a gap, and what is published from then on
//     follows.
//   - last: With a zero After and Last, the newest Last messages that are kept of each
//     topic are returned first, in order, and then what follows, with nothing missing
//     in between.
//   - last and position: Position is after the Last messages from the start: a client
//     that is cut among them and resumes does not get them again.
//   - last and after: Last has no effect on a subscription that resumes.
//   - set topics: A Subscription's SetTopics, if it has one, replaces the topics from
//     Position on: those that stay lose nothing, new ones return exactly what was
//     published after Position, and those that are left out return nothing more.
//   - set topics and notify: After an empty Poll, SetTopics calls Notify if it has
//     given the subscription something new to return, and so does all that follows.
//   - set topics and gap: If a new topic has lost something after Position, a gap is
//     reported, once, before what follows.
//   - skip: A Subscription's Skip, if it has one, lets it go on after what is the newest
//     message then, and returns that position.
//   - invalid message: A message that could not be written to a client is refused with
//     ErrNotPublished, and is never returned.
//   - invalid topics: Subscribe refuses an empty list of topics, one of more than
//     1,000, and any topic that is invalid.
//   - ended context: With a context that has ended, Publish returns its error and
//     ErrNotPublished, and Subscribe its error.
//   - context of the call: The context of Subscribe bounds the call only.
//   - end of the broadcaster: A Broadcaster's Close, if it has one, lets subscriptions
//     return what is kept for them, then ErrClosed with a call of Notify; Publish and
//     Subscribe are refused.
//   - end of a subscription: A Subscription's Finish, if it has one, lets it return
//     what is in the log by then, then ErrClosed with a call of Notify.
//   - restart: After a restart, a resume gets exactly what followed its ID, or a gap.
//   - no ID twice: After a restart no ID is given again.
//   - keys: A newer message of a Key replaces the older one, which is no loss: a
//     subscription returns of each Key what is the newest.
//   - round: If not all that has changed fits in one Poll, the Keys come first, each once
//     and as it is when it is its turn, while Position stays; then come the events, which
//     Position follows. What changes meanwhile belongs to the next round.
//   - fair rounds: A Key that has changed before a round starts is returned in it, however
//     fast others change or come.
//   - cut in a round: A client that is cut after any message of a round, or of a Poll in
//     which all fits, resumes with nothing missing.
//   - changes in a round: A Key that is set, removed or set again in a round is returned
//     as it is when it is its turn; what happens after that belongs to the next round.
//   - parts of a round: The end of a subscription, other topics and a loss in any part
//     of a round or of a beginning leave nothing out, but for what is reported.
//   - first between two polls: An event with First takes the place of the events that a
//     subscription has still to return, which is no loss.
//   - removals: Removals are returned like values, but for those before a beginning's end,
//     which has none.
//   - values kept: Beyond Config.Values the oldest value is evicted, and the oldest
//     removal: a position before it has a gap, and a beginning lacks the value until its
//     Key is set or removed.
//   - evicted in a round: Keys that are evicted in the middle of a round, and set again,
//     are returned or reported as lost.
//   - beginning: With Beginning, a subscription without After returns ErrBegin with all
//     that is kept: the events from the newest First on, then the value of each Key.
//     Position is that of an unknown position until the Poll that follows the last of
//     them.
//   - beginning or resume: With Beginning, a subscription that has a position resumes, or
//     begins if that is not in the log.
//   - cut in a beginning: A client that is cut in a beginning begins again.
//   - beginning instead of a gap: A subscription with Beginning gets no gap: it begins
//     again, in all topics. A beginning names the topics that lack an event since the
//     newest First.
//   - loss in a beginning: A beginning of which something was evicted before it was
//     returned begins again. A fourth one in a row is ErrSlow, for good.
//   - beginning beside a large map: A beginning returns the events first, so that values
//     do not make it lose them.
//   - beginning of added topics: On a subscription with Beginning, topics that SetTopics
//     adds begin, and those whose beginning it has interrupted; the others go on where
//     they were.
//   - topics removed in a beginning: If the topics that begin are removed in the middle,
//     Position stays that of an unknown position until the round has ended: events that
//     the others have returned in it do not come again after a cut.
//   - end: After the last message of topics that have ended, Poll returns ErrEnded, for
//     good. Publish refuses what follows, until an event with First.
//   - last values: Last counts the newest events and values together.
package broadcasttest

// Package broadcast carries messages from publishers to every stream on their topics. A
// client that lost its connection comes back for exactly what it missed.
//
// A handler (packages sse and ws) consumes a [Broadcaster], and an engine outside the process
// implements a [Journal]. A [Hub] connects the two. The zero Hub works by itself, in memory:
//
//	var hub broadcast.Hub
//	hub.Publish(ctx, broadcast.Message{Topic: "prices", Type: "tick", Data: data})
//
// # What is promised
//
// Each subscriber gets each message of its topics that is published after its position,
// exactly once and in order, or a gap if something was lost. A stream that stays silent has
// missed nothing. A gap comes no later than the first message that follows the loss, and once
// in each stream.
//
// # Positions
//
// An [ID] is a position in the log, not only the name of a message: everything up to it has
// been seen. It consists of an epoch (which log) and a sequence (where in it, over all
// topics). The same ID therefore resumes on either transport, on other topics, and with a
// shared Journal on another server. An ID of another epoch, ahead of the log, or older than
// what is kept resumes with a gap, never with silence.
//
// # Several servers
//
// Hubs on one [Journal] are one log, which [Hub.Run] follows. Packages natsjournal and
// redisjournal implement it, as modules of their own. A position is good on every server, and
// messages that a Hub no longer keeps are read from the journal for clients that resume from
// before them. docs/journals.md says what is promised and what it costs.
//
// # State
//
// Messages without a Key are events: each of them counts. A message with a Key is the Key's
// newest value, or its removal, and replaces the one before, which is no loss. Prices, who is in
// a room and where the cursors are have Keys; a chat has events. One topic may have both.
//
//	hub.Publish(ctx, broadcast.Message{Topic: "prices", Key: "AAPL", Data: price})
//	hub.Publish(ctx, broadcast.Message{Topic: "room", Key: id, Removed: true})
//
// A subscription reads in rounds. Where all that has changed since its position fits in one Poll,
// it gets that in order. Where it does not, because it is slow or was away, it gets each Key that
// has changed once, as it is when it is its turn, and then the events. So a slow reader skips
// what was replaced without a gap, what it shows is never older than one round, and a Key that
// changes all the time keeps no other one waiting. Two limits follow. Events wait for the Keys of
// their round: more than Keep of them meanwhile are a gap. And no value of a Key may depend on the one
// before.
//
// With SubscribeOptions.Beginning a subscription starts with all that its topics keep, after
// [ErrBegin]: first the events, then the value of each Key. Where others get a gap, it begins
// again, so that what it has shown is whole at any time, unless the beginning names topics that may
// lack something.
//
// First starts the events of a topic over: the text of an answer so far, say, every few hundred
// pieces of it. A page that begins gets the newest First and what follows. One publisher at a time
// can know what all events before come to. After End a subscription whose topics have all ended
// returns [ErrEnded].
//
// How much is kept is set by Hub.Keep for events, and by Hub.Values for values and, separately,
// for removals; Hub.Retain sets it for topics with a prefix. A value that was evicted is a loss
// for a reader that has not had it, and its topic begins partially until the Key is set or
// removed again.
//
// # How it works
//
// A topic is a ring of events and a table of Keys, and a subscription has a cursor on each of its
// topics. Publishing is one short critical section that inserts into a ring and stores the
// log's head last; it never waits for a subscriber and never touches a socket. Messages from
// before and after Subscribe are read in the same way, so nothing is missed between them. A
// reader that is too slow is overrun: it costs the others nothing, and gets a gap.
package broadcast

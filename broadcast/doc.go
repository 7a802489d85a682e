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
// # How it works
//
// A topic is a ring of messages, and a subscription has a cursor on the ring of each of its
// topics. Publishing is one short critical section that inserts into a ring and stores the
// log's head last; it never waits for a subscriber and never touches a socket. Messages from
// before and after Subscribe are read in the same way, so nothing is missed between them. A
// reader that is too slow is overrun: it costs the others nothing, and gets a gap.
package broadcast

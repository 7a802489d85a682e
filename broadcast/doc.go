// Package broadcast carries a message from whoever publishes it to every
// stream on its topic, and lets a client that dropped come back for exactly
// what it missed.
//
// A handler (packages sse and ws) consumes a [Broadcaster]; an engine outside
// the process implements a [Journal]; a [Hub] is all there is between. The zero
// Hub works, in memory:
//
//	var hub broadcast.Hub
//	hub.Publish(ctx, broadcast.Message{Topic: "prices", Type: "tick", Data: data})
//
// # What is promised
//
// Each subscriber sees each message of its topics published after its position
// exactly once and in order, or is told of a gap where something was lost.
// Silence is never false. A gap is told at the latest together with the first
// message that follows the loss, and once for each stream.
//
// # Positions
//
// An [ID] names a place in the log, not only a message: everything up to it has
// been seen. It consists of an epoch (which log) and a sequence (where in it,
// over all topics). The same ID therefore resumes on either transport, on other
// topics, and with a shared Journal on another server. An ID of another epoch,
// from the future, or older than what is kept is answered with a gap, never
// with silence.
//
// # Several servers
//
// Hubs on one [Journal] are one log: packages natsjournal and redisjournal have engines
// for it, as modules of their own. [Hub.Run] follows the journal. A position is then good
// on every server, and what the Hub no longer keeps is read from the journal for whoever
// comes back for it. docs/journals.md says what is promised and what it costs.
//
// # How it works
//
// A topic is a ring of messages and a subscription is a cursor on the rings of
// its topics. Publishing is one short critical section that inserts into a ring
// and stores the log's head last; it never waits for a subscriber and never
// touches a socket. Replay and live are the same read, so nothing can fall
// between them. A reader that is too slow is overrun: it costs the others
// nothing, and is told of the gap.
package broadcast

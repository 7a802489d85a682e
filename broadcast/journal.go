package broadcast

import (
	"context"
	"iter"
)

// Journal is the log that several Hubs share: what an engine outside the process
// implements. The order, the IDs and the history are the engine's; each Hub
// follows its tail, so that a client can move between servers with its ID.
//
// No ID is ever given twice. An engine that may lose what it acknowledged, or
// that is made anew, starts a new epoch.
type Journal interface {
	// Append adds messages and returns their IDs once the engine has them. It
	// does so at most once for each call: it never tries again after bytes may
	// have left, unless the engine recognises the repetition. Its error wraps
	// [ErrNotPublished] where surely nothing was added; after any other error
	// the messages may arrive.
	Append(ctx context.Context, ms ...Message) ([]ID, error)

	// Tail yields what the engine keeps behind after (the zero ID: all that it
	// keeps), then what comes, until ctx ends. Each entry's sequence is one more
	// than that of the one before it; an entry that is no message has an ID and
	// an empty Topic.
	//
	// A loss is yielded as (Message{ID: the last that was lost}, an [ErrGap]),
	// at once and not with the next message; a new epoch as an ErrGap with an ID
	// in it. After these the sequence goes on. Any other error is the last. The
	// epoch is verified whenever the connection is made anew, before anything is
	// yielded from it.
	Tail(ctx context.Context, after ID) iter.Seq2[Message, error]

	// Bounds asks the engine, not a cache, for the oldest message that it keeps
	// and the newest that it ever had. An empty journal has an epoch: its newest
	// has sequence 0. Where nothing is kept, oldest is one behind newest.
	Bounds(ctx context.Context) (oldest, newest ID, err error)
}

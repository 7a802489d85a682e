package broadcast

import (
	"context"
	"iter"
)

// Journal is the log that several Hubs share. An engine outside the process implements it,
// and decides on the order, the IDs and how much is kept. Each Hub follows its tail, so that
// a client can move between servers with its ID.
//
// No ID is ever given twice. An engine starts a new epoch if it may have lost what it has
// acknowledged, or has been created anew.
type Journal interface {
	// Append adds messages and returns their IDs once the engine has them. It adds
	// them at most once: it never tries again after bytes may have left, unless the
	// engine recognises the repetition. Its error wraps [ErrNotPublished] if surely
	// nothing was added; after any other error the messages may arrive. If it can tell
	// for each message, as where the engine refuses one that is too large, it returns
	// [AppendErrors] and as many IDs as messages; those of the refused are zero.
	Append(ctx context.Context, ms ...Message) ([]ID, error)

	// Tail yields the entries that the engine keeps after an ID (the zero ID: all that
	// it keeps), and then new ones, until ctx ends. Each entry's sequence is one more
	// than that of the entry before; an entry that is no message has an ID and an empty
	// Topic.
	//
	// A loss is yielded as (Message{ID: the last that was lost}, an [ErrGap]), at once
	// and not with the next message. A new epoch is yielded as an ErrGap with an ID of
	// that epoch; an engine that knows which entries of the epoch before have kept their
	// sequences says so with an [EpochError]. After these the sequence goes on; any other error is its last. Whenever
	// Tail connects anew it verifies the epoch before it yields anything.
	Tail(ctx context.Context, after ID) iter.Seq2[Message, error]

	// Bounds asks the engine, not a cache, for the oldest message that it keeps and the
	// newest that it ever had. An empty journal has an epoch, and its newest has sequence
	// 0. If nothing is kept, oldest is one after newest.
	Bounds(ctx context.Context) (oldest, newest ID, err error)
}

// Compactor is a [Journal] that keeps state for longer than events: of old entries it keeps the
// newest value of each Key, and of each topic the newest event with First and that with End. So a
// Hub that starts has the value of each Key, however long ago it was set.
type Compactor interface {
	Journal

	// Compacts reports whether that is so. If it is, Tail after sequence 0 of the epoch may leave
	// out entries that came before the newest 65,536. It yields the rest in order, with their IDs,
	// and (Message{ID: the last that is left out}, an [ErrCompacted]) before the entry that
	// follows: only this, and an ErrGap, excuse a jump of the sequence. Entries for which nothing
	// newer stands are left out only if they are removals, or events that a [CompactedError]
	// reports. Tail after any other ID leaves out nothing: what it does not have is a gap.
	//
	// If it knows which entries of earlier epochs are still there it begins with an [EpochError]
	// for each of these epochs, with the ID that it was asked for. A Hub that starts after a new
	// epoch has begun lets clients go on after what they have had of those entries.
	Compacts() bool
}

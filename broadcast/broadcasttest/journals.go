package broadcasttest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// TestJournal checks that the journals which open returns fulfil the contract of
// [broadcast.Journal]. It calls open once for each case. open returns an empty journal to
// which nobody else appends and which keeps at least the 1,000 newest entries; it closes
// what it has opened with t.Cleanup.
//
// TestJournal does not make the engine fail. Test with your engine what its crash, its loss
// of entries and its absence do.
func TestJournal(t *testing.T, open func(*testing.T) broadcast.Journal) {
	require.NotNil(t, open, "open")
	for _, test := range journalCases {
		t.Run(test.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Log("the rule:", test.rule)
				}
			})
			test.run(t, open(t))
		})
	}
}

// journalCase checks one rule, which is logged if the case fails.
type journalCase struct {
	name, rule string
	run        func(*testing.T, broadcast.Journal)
}

var journalCases = []journalCase{
	{
		"append",
		"Append returns an ID for each message, in their order. The IDs rise, and are in one epoch, which is neither 0 nor 1.",
		testAppend,
	},
	{
		"append to a tail",
		"Messages are yielded in the order in which they were appended, by one Append or by several, with the IDs that Append returned.",
		testAppendToTail,
	},
	{
		"fields",
		"Topic, Type, From, Data, Binary, Key, Removed, First and End of a message are yielded as they were appended; the journal sets its ID.",
		testJournalFields,
	},
	{
		"topics",
		"Topics are yielded as they were appended; the engine does not interpret them.",
		testJournalTopics,
	},
	{
		"tail of all",
		"Tail after the zero ID yields all that is kept, then what is appended.",
		testTailOfAll,
	},
	{
		"tail from an ID",
		"Tail after an ID yields exactly what followed it, then what is appended.",
		testTailFromID,
	},
	{
		"tail of the new",
		"Tail after the newest entry yields only what is appended from then on.",
		testTailOfNew,
	},
	{
		"tail of an empty journal",
		"Tail after the newest ID of an empty journal yields what is appended.",
		testTailOfEmpty,
	},
	{
		"several tails",
		"Several Tails at once, each after its own ID, yield the same entries.",
		testSeveralTails,
	},
	{
		"tail of another epoch",
		"Tail after an ID of another epoch first yields a gap with an ID of the journal's epoch, then what is kept after that ID.",
		testTailOfOtherEpoch,
	},
	{
		"end of a tail",
		"A Tail ends when its ctx ends, also while it waits, and when the caller stops the iteration.",
		testEndOfTail,
	},
	{
		"bounds",
		"Once Append has returned, Bounds returns the oldest kept entry and the newest that there ever was.",
		testBounds,
	},
	{
		"bounds of an empty journal",
		"An empty journal has the epoch that its messages will get, and its oldest ID is the one after its newest.",
		testBoundsOfEmpty,
	},
	{
		"large append",
		"One Append accepts 512 messages.",
		testLargeAppend,
	},
	{
		"refused messages",
		"If the engine refuses one message of an Append, for example because it is too large, those that are yielded are the ones that were not refused: all without an error, and none whose error wraps ErrNotPublished. With AppendErrors there is an error and an ID for each message.",
		testRefusedMessages,
	},
	{
		"concurrent appends",
		"No ID is given twice, and each message is yielded once, with the ID that its Append returned.",
		testConcurrentAppends,
	},
	{
		"compaction",
		"After sequence 0 of its epoch, Tail of a Compactor yields the newest value of each Key, and of each topic the newest event with First and that with End, with their IDs. A sequence follows the one before it but after an ErrCompacted or a gap, and a CompactedError names the topics that lack events since their newest First. After any other ID it yields a gap where something is not there any more.",
		testCompaction,
	},
	{
		"ended context",
		"Append and Bounds return the error of a context that has ended. If it wraps ErrNotPublished, nothing was added.",
		testJournalEndedContext,
	},
}

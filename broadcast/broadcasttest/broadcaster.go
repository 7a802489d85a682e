package broadcasttest

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Config says how [TestBroadcaster] gets the Broadcasters that it tests. Open and Keep are
// required.
type Config struct {
	// Open returns a new Broadcaster for one case. Nobody else publishes to it, and it
	// knows the position of its log. Open closes what it has opened with t.Cleanup. If the
	// Broadcaster has a method Close() error that ends it, the suite tests that too.
	Open func(*testing.T) broadcast.Broadcaster

	// Keep is how many messages the Broadcaster keeps of each topic, at least 8. The suite
	// publishes a few times as many: a small number is fast.
	Keep int

	// Values is how many values, and how many removals, the Broadcaster keeps of each topic, at
	// least 8. If zero, the cases about more than that are skipped.
	Values int

	// Restart ends a Broadcaster that Open returned, and returns the one that a restarted
	// server would have, with or without the messages that were kept. If nil, the cases
	// about restarts are skipped.
	Restart func(*testing.T, broadcast.Broadcaster) broadcast.Broadcaster
}

// TestBroadcaster checks that a Broadcaster keeps the rules that the documentation of this
// package lists. There is one case for each rule, with the name of the rule, and each case
// opens a Broadcaster of its own. A case that fails logs its rule.
func TestBroadcaster(t *testing.T, c Config) {
	require.NotNil(t, c.Open, "Config.Open")
	require.GreaterOrEqual(t, c.Keep, 8, "Config.Keep")
	for _, test := range slices.Concat(broadcasterCases, stateCases) {
		t.Run(test.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Log("the rule:", test.rule)
				}
			})
			test.run(t, c)
		})
	}
}

// broadcasterCase checks one rule. A test compares the names and rules with the documented
// list.
type broadcasterCase struct {
	name, rule string
	run        func(*testing.T, Config)
}

var broadcasterCases = []broadcasterCase{
	{
		"publish",
		"A message arrives with the ID that Publish returned and with all its fields; an ID that the publisher set is ignored.",
		testPublish,
	},
	{
		"order",
		"Messages are returned exactly once and in the order of their IDs, over all topics of a subscription.",
		testOrder,
	},
	{
		"between topics",
		"A Poll between two publishes on two topics skips neither message.",
		testBetweenTopics,
	},
	{
		"several publishers",
		"With several publishers at once, all subscriptions get the same messages in the same order.",
		testSeveralPublishers,
	},
	{
		"one log",
		"A message that one subscription has returned is returned by the next Poll of any other on the topic.",
		testOneLog,
	},
	{
		"same message",
		"A message is the same *Message for every subscription.",
		testSameMessage,
	},
	{
		"exact topics",
		"Topics are exact names: there are no wildcards, and any valid name can be used.",
		testExactTopics,
	},
	{
		"duplicate topics",
		"Messages of a topic that SubscribeOptions names twice are returned once.",
		testDuplicateTopics,
	},
	{
		"small buffers",
		"Poll returns each message once, whatever the size of its buffer.",
		testSmallBuffers,
	},
	{
		"empty poll",
		"Only a Poll without a message and without an error means that nothing is left; one that returns fewer messages than fit does not.",
		testEmptyPoll,
	},
	{
		"from now on",
		"With a zero After, no message is returned whose Publish had returned before Subscribe was called.",
		testFromNowOn,
	},
	{
		"resume",
		"A resume from an ID returns exactly what followed it.",
		testResume,
	},
	{
		"resume other topics",
		"A resume on other topics returns what was published there after the position.",
		testResumeOtherTopics,
	},
	{
		"resume where a stream began",
		"A subscription's Position resumes it exactly, even before its first Poll.",
		testResumeBeginning,
	},
	{
		"cut",
		"A client that is cut between any two writes and resumes after the last position that it was sent misses nothing and gets nothing twice.",
		testCut,
	},
	{
		"position when drained",
		"After an empty Poll, Position is the head of the log, even if that is a message of another topic.",
		testPositionDrained,
	},
	{
		"position in a batch",
		"Position is as of the last Poll: while messages are left, it is neither past one that has not been returned nor the log's head.",
		testPositionInBatch,
	},
	{
		"position when not woken",
		"Poll may be called at any time, whether or not Notify was called, and Position is never past a message that a later Poll returns.",
		testPositionUnwoken,
	},
	{
		"position and after",
		"Position is never before After, and never the zero ID.",
		testPositionAndAfter,
	},
	{
		"notify not before an empty poll",
		"Notify is not called before the first empty Poll.",
		testNotifyUnarmed,
	},
	{
		"notify",
		"After an empty Poll, Notify is called at least once when there is something to return.",
		testNotify,
	},
	{
		"no lost wake-up",
		"A message that is published between an empty Poll and the sleep that follows it calls Notify.",
		testNoLostWakeUp,
	},
	{
		"notify holds no lock",
		"While Notify runs, Poll, Position and Close can be called and return.",
		testNotifyHoldsNoLock,
	},
	{
		"notify during close",
		"Close may run at the same time as Notify; at most one call comes after it.",
		testNotifyDuringClose,
	},
	{
		"close",
		"Close may be called at any time, even during a Poll and more than once; Poll after it returns ErrClosed.",
		testClose,
	},
	{
		"slow subscriber",
		"Publish never waits for a subscriber, even one that never polls.",
		testSlowSubscriber,
	},
	{
		"overrun",
		"A subscription that is overrun gets ErrGap together with all that is kept; GapError.ID is just before the first of it.",
		testOverrun,
	},
	{
		"overrun of one topic",
		"A loss in one topic does not lose what is kept of the others.",
		testOverrunOfOneTopic,
	},
	{
		"overrun again",
		"Each loss is reported once, before the message that follows it, and each Poll that reports one makes progress.",
		testOverrunAgain,
	},
	{
		"overrun in motion",
		"While messages are published faster than a subscription polls, none is missing without a gap, and no gap is reported without a loss.",
		testOverrunInMotion,
	},
	{
		"gap once",
		"A gap is reported once to each subscription, and again to one that resumes from before it.",
		testGapOnce,
	},
	{
		"resume too old",
		"A resume from before what is kept gets a gap and then all that is kept, unless it gets all that followed.",
		testResumeTooOld,
	},
	{
		"other epoch",
		"An ID of another epoch is a gap, followed by all that is kept.",
		testOtherEpoch,
	},
	{
		"unknown position",
		"An ID of the reserved epoch 1 is a gap, followed by all that is kept.",
		testUnknownPosition,
	},
	{
		"future",
		"An ID ahead of the log is a gap, and what is published from then on follows.",
		testFuture,
	},
	{
		"last",
		"With a zero After and Last, the newest Last messages that are kept of each topic are returned first, in order, and then what follows, with nothing missing in between.",
		testLast,
	},
	{
		"last and position",
		"Position is after the Last messages from the start: a client that is cut among them and resumes does not get them again.",
		testLastAndPosition,
	},
	{
		"last and after",
		"Last has no effect on a subscription that resumes.",
		testLastAndAfter,
	},
	{
		"set topics",
		"A Subscription's SetTopics, if it has one, replaces the topics from Position on: those that stay lose nothing, new ones return exactly what was published after Position, and those that are left out return nothing more.",
		testSetTopics,
	},
	{
		"set topics and notify",
		"After an empty Poll, SetTopics calls Notify if it has given the subscription something new to return, and so does all that follows.",
		testSetTopicsNotify,
	},
	{
		"set topics and gap",
		"If a new topic has lost something after Position, a gap is reported, once, before what follows.",
		testSetTopicsGap,
	},
	{
		"skip",
		"A Subscription's Skip, if it has one, lets it go on after what is the newest message then, and returns that position.",
		testSkip,
	},
	{
		"invalid message",
		"A message that could not be written to a client is refused with ErrNotPublished, and is never returned.",
		testInvalidMessage,
	},
	{
		"invalid topics",
		"Subscribe refuses an empty list of topics, one of more than 1,000, and any topic that is invalid.",
		testInvalidTopics,
	},
	{
		"ended context",
		"With a context that has ended, Publish returns its error and ErrNotPublished, and Subscribe its error.",
		testEndedContext,
	},
	{
		"context of the call",
		"The context of Subscribe bounds the call only.",
		testContextOfTheCall,
	},
	{
		"end of the broadcaster",
		"A Broadcaster's Close, if it has one, lets subscriptions return what is kept for them, then ErrClosed with a call of Notify; Publish and Subscribe are refused.",
		testEndOfBroadcaster,
	},
	{
		"end of a subscription",
		"A Subscription's Finish, if it has one, lets it return what is in the log by then, then ErrClosed with a call of Notify.",
		testEndOfSubscription,
	},
	{
		"restart",
		"After a restart, a resume gets exactly what followed its ID, or a gap.",
		testRestart,
	},
	{
		"no ID twice",
		"After a restart no ID is given again.",
		testNoIDTwice,
	},
}

package broadcasttest

// stateCases are the cases of Keys, of events that start over, of ends and of beginnings.
var stateCases = []broadcasterCase{
	{
		"keys",
		"A newer message of a Key replaces the older one, which is no loss: a subscription returns of each Key what is the newest.",
		testKeys,
	},
	{
		"round",
		"If not all that has changed fits in one Poll, the Keys come first, each once and as it is when it is its turn, while Position stays; then come the events, which Position follows. What changes meanwhile belongs to the next round.",
		testRound,
	},
	{
		"fair rounds",
		"A Key that has changed before a round starts is returned in it, however fast others change or come.",
		testFairRounds,
	},
	{
		"cut in a round",
		"A client that is cut after any message of a round, or of a Poll in which all fits, resumes with nothing missing.",
		testCutInRound,
	},
	{
		"changes in a round",
		"A Key that is set, removed or set again in a round is returned as it is when it is its turn; what happens after that belongs to the next round.",
		testChangesInRound,
	},
	{
		"parts of a round",
		"The end of a subscription, other topics and a loss in any part of a round or of a beginning leave nothing out, but for what is reported.",
		testPartsOfRounds,
	},
	{
		"first between two polls",
		"An event with First takes the place of the events that a subscription has still to return, which is no loss.",
		testFirstBetweenPolls,
	},
	{
		"removals",
		"Removals are returned like values, but for those before a beginning's end, which has none.",
		testRemovals,
	},
	{
		"values kept",
		"Beyond Config.Values the oldest value is evicted, and the oldest removal: a position before it has a gap, and a beginning lacks the value until its Key is set or removed.",
		testValuesKept,
	},
	{
		"evicted in a round",
		"Keys that are evicted in the middle of a round, and set again, are returned or reported as lost.",
		testSlots,
	},
	{
		"beginning",
		"With Beginning, a subscription without After returns ErrBegin with all that is kept: the events from the newest First on, then the value of each Key. Position is that of an unknown position until the Poll that follows the last of them.",
		testBeginning,
	},
	{
		"beginning or resume",
		"With Beginning, a subscription that has a position resumes, or begins if that is not in the log.",
		testBeginningOrResume,
	},
	{
		"cut in a beginning",
		"A client that is cut in a beginning begins again.",
		testCutInBeginning,
	},
	{
		"beginning instead of a gap",
		"A subscription with Beginning gets no gap: it begins again, in all topics. A beginning names the topics that lack an event since the newest First.",
		testBeginningInsteadOfGap,
	},
	{
		"loss in a beginning",
		"A beginning of which something was evicted before it was returned begins again. A fourth one in a row is ErrSlow, for good.",
		testLossInBeginning,
	},
	{
		"beginning beside a large map",
		"A beginning returns the events first, so that values do not make it lose them.",
		testBeginningWithEvents,
	},
	{
		"beginning of added topics",
		"On a subscription with Beginning, topics that SetTopics adds begin, and those whose beginning it has interrupted; the others go on where they were.",
		testBeginningOfAddedTopics,
	},
	{
		"topics removed in a beginning",
		"If the topics that begin are removed in the middle, Position stays that of an unknown position until the round has ended: events that the others have returned in it do not come again after a cut.",
		testTopicsRemovedInBeginning,
	},
	{
		"end",
		"After the last message of topics that have ended, Poll returns ErrEnded, for good. Publish refuses what follows, until an event with First.",
		testEnd,
	},
	{
		"last values",
		"Last counts the newest events and values together.",
		testLastValues,
	},
}

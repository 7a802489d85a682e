package clustertest_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/fanfare-go/fanfare/broadcast"
	ct "github.com/fanfare-go/fanfare/internal/clustertest"
)

func at(seq uint64) broadcast.ID    { return broadcast.MakeID(7, seq) }
func later(seq uint64) broadcast.ID { return broadcast.MakeID(3, seq) } // in the epoch after that

func on(topic string, id broadcast.ID, text string) ct.Entry {
	return ct.Entry{ID: id, Topic: topic, Text: text}
}

// acked returns acknowledged messages on one topic, the n-th at the n-th tick.
func acked(topic string, from uint64, texts ...string) (ps []ct.Publishing) {
	for i, text := range texts {
		ps = append(ps, ct.Publishing{Entry: on(topic, at(from+uint64(i)), text), At: i + 1})
	}
	return ps
}

// got returns messages on one topic as a client gets them.
func got(topic string, id func(uint64) broadcast.ID, from uint64, texts ...string) (es []ct.Event) {
	for i, text := range texts {
		es = append(es, ct.Event{At: int(from) + i, Entry: on(topic, id(from+uint64(i)), text)})
	}
	return es
}

func gap(id broadcast.ID, topics ...string) []ct.Event {
	return []ct.Event{{Kind: ct.Gap, Entry: ct.Entry{ID: id}, Lost: topics}}
}

func events(parts ...[]ct.Event) (all []ct.Event) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// client begins before the first message of the first epoch.
func client(es []ct.Event, topics ...string) []ct.Client {
	return []ct.Client{{Name: "client", Topics: topics, Begin: at(0), Events: es}}
}

// judged is a history that the oracle judges.
type judged struct {
	name    string
	history ct.History
	clients []ct.Client
	violate []ct.Rule // none: the history is accepted
}

// five are the texts of some messages, and lost a history of them in which gaps may be.
// renumbered has the fourth in a later epoch, and split the fifth in yet another one.
var (
	five       = []string{"one", "two", "three", "four", "five"}
	lost       = ct.History{Loses: true, Published: acked("t", 1, five...)}
	split      = append(slices.Clip(renumbered), ct.Publishing{Entry: on("t", broadcast.MakeID(5, 4), "five"), At: 9})
	renumbered = append(acked("t", 1, five[:3]...), ct.Publishing{Entry: on("t", later(4), "four"), At: 4})
)

// A gap counts only between the messages of its topic that the missing one stands between.
func TestOracleOfMissing(t *testing.T) {
	judge(t, []judged{
		{
			name: "everything once and in order", history: ct.History{Published: acked("t", 1, five...)},
			clients: client(got("t", at, 1, five...), "t"),
		},
		{
			name: "a message is missing", history: lost,
			clients: client(events(got("t", at, 1, "one", "two"), got("t", at, 4, "four", "five")), "t"),
			violate: []ct.Rule{ct.RuleMissing},
		},
		{
			name: "a gap in the place of the missing message", history: lost,
			clients: client(events(got("t", at, 1, "one", "two"), gap(at(3)), got("t", at, 4, "four", "five")), "t"),
		},
		{
			name: "a gap before the message that precedes the missing one", history: lost,
			clients: client(events(got("t", at, 1, "one"), gap(at(1)), got("t", at, 2, "two"), got("t", at, 4, "four", "five")), "t"),
			violate: []ct.Rule{ct.RuleMissing},
		},
		{
			name: "a gap after the message that follows the missing one", history: lost,
			clients: client(events(got("t", at, 1, "one", "two"), got("t", at, 4, "four"), gap(at(4)), got("t", at, 5, "five")), "t"),
			violate: []ct.Rule{ct.RuleMissing},
		},
		{
			name: "a gap in another topic", history: lost,
			clients: client(events(got("t", at, 1, "one", "two"), gap(at(3), "u"), got("t", at, 4, "four", "five")), "t", "u"),
			violate: []ct.Rule{ct.RuleMissing},
		},
		{
			name:    "kept messages of another topic between a gap and what follows it",
			history: ct.History{Loses: true, Published: append(acked("t", 1, "one", "two", "three"), append(acked("u", 4, "four"), acked("t", 5, "five")...)...)},
			clients: client(events(got("t", at, 1, "one"), gap(at(3)), got("u", at, 4, "four"), got("t", at, 5, "five")), "t", "u"),
		},
		{
			name: "a gap at the end", history: ct.History{Loses: true, Published: acked("t", 1, "one", "two")},
			clients: client(events(got("t", at, 1, "one"), gap(at(2))), "t"),
		},
		{
			name: "what only another client got is missing", history: ct.History{Loses: true, Published: append(acked("t", 1, "one"),
				ct.Publishing{Entry: on("t", broadcast.ID{}, "two"), Outcome: ct.Unknown})},
			clients: append(client(got("t", at, 1, "one", "two"), "t"), client(got("t", at, 1, "one"), "t")...),
			violate: []ct.Rule{ct.RuleMissing},
		},
		{
			name:    "a gap where nothing is missing",
			history: ct.History{Published: acked("t", 1, "one", "two"), Kept: []ct.Entry{on("t", at(1), "one"), on("t", at(2), "two")}},
			clients: client(events(got("t", at, 1, "one"), gap(at(1)), got("t", at, 2, "two")), "t"),
			violate: []ct.Rule{ct.RuleGap},
		},
	})
}

// Each change of epoch has a gap, and no epoch comes back.
func TestOracleOfEpochs(t *testing.T) {
	judge(t, []judged{
		{
			name: "another epoch with a gap", history: ct.History{Loses: true, Published: renumbered},
			clients: client(events(got("t", at, 1, five[:3]...), gap(later(3)), got("t", later, 4, "four")), "t"),
		},
		{
			name: "another epoch without a gap", history: ct.History{Loses: true, Published: renumbered},
			clients: client(events(got("t", at, 1, five[:3]...), got("t", later, 4, "four")), "t"),
			violate: []ct.Rule{ct.RuleEpoch},
		},
		{
			name: "another epoch with a gap in one of two topics", history: ct.History{Loses: true, Published: renumbered},
			clients: client(events(got("t", at, 1, five[:3]...), gap(later(3), "t"), got("t", later, 4, "four")), "t", "u"),
			violate: []ct.Rule{ct.RuleEpoch},
		},
		{
			name: "another epoch whose gap was in the epoch before", history: ct.History{Loses: true, Published: renumbered},
			clients: client(events(got("t", at, 1, five[:3]...), gap(at(3)), got("t", later, 4, "four")), "t"),
			violate: []ct.Rule{ct.RuleEpoch},
		},
		{
			name: "kept messages come again in another epoch", history: ct.History{Loses: true, Published: renumbered},
			clients: client(events(got("t", at, 1, five[:3]...), gap(later(1)), got("t", later, 2, "two", "three", "four")), "t"),
		},
		{
			name:    "another epoch of an engine that loses nothing",
			history: ct.History{Published: renumbered, Kept: []ct.Entry{on("t", later(1), "one"), on("t", later(2), "two"), on("t", later(3), "three"), on("t", later(4), "four")}},
			clients: client(events(got("t", at, 1, five[:3]...), gap(later(3)), got("t", later, 4, "four")), "t"),
			violate: []ct.Rule{ct.RuleGap},
		},
		{
			name: "a split whose losing side began an epoch that no client has entered", history: ct.History{Loses: true, Published: split},
			clients: client(events(got("t", at, 1, five[:3]...), gap(later(3)), got("t", later, 4, "four")), "t"),
		},
		{
			name: "an epoch that no client has entered, and no gap", history: ct.History{Loses: true, Published: append(acked("t", 1, five[:3]...), split[4])},
			clients: client(got("t", at, 1, five[:3]...), "t"),
			violate: []ct.Rule{ct.RuleMissing},
		},
		{
			name:    "an epoch that no client has entered, and that the engine has kept",
			history: ct.History{Loses: true, Published: split, Kept: []ct.Entry{split[4].Entry}},
			clients: client(events(got("t", at, 1, five[:3]...), gap(later(3)), got("t", later, 4, "four")), "t"),
			violate: []ct.Rule{ct.RuleMissing},
		},
		{
			name: "an epoch comes back", history: ct.History{Loses: true, Published: renumbered},
			clients: client(events(got("t", at, 1, "one"), gap(later(3)), got("t", later, 4, "four"), gap(at(1)), got("t", at, 2, "two", "three")), "t"),
			violate: []ct.Rule{ct.RuleOrder},
		},
		{
			name: "clients went through the epochs in different orders", history: ct.History{Loses: true, Published: renumbered},
			clients: append(client(events(got("t", at, 1, five[:3]...), gap(later(3)), got("t", later, 4, "four")), "t"),
				ct.Client{Name: "other", Topics: []string{"t"}, Begin: later(3), Events: events(got("t", later, 4, "four"), gap(at(3)))}),
			violate: []ct.Rule{ct.RuleOrder},
		},
	})
}

// Each message comes once and in order.
func TestOracleOfOrder(t *testing.T) {
	judge(t, []judged{
		{
			name: "a message twice", history: ct.History{Published: acked("t", 1, "one")},
			clients: client(events(got("t", at, 1, "one"), got("t", at, 1, "one")), "t"),
			violate: []ct.Rule{ct.RuleOrder},
		},
		{
			name: "an older message after a newer one", history: ct.History{Published: acked("t", 1, "one", "two")},
			clients: client(events(got("t", at, 2, "two"), got("t", at, 1, "one")), "t"),
			violate: []ct.Rule{ct.RuleOrder},
		},
		{
			name: "a gap takes the position back", history: lost,
			clients: client(events(got("t", at, 1, five...), gap(at(2))), "t"),
			violate: []ct.Rule{ct.RuleOrder},
		},
	})
}

// What arrives was published, and not refused.
func TestOracleOfOrigin(t *testing.T) {
	judge(t, []judged{
		{
			name: "what was refused stays away", history: ct.History{Published: []ct.Publishing{{Entry: on("t", broadcast.ID{}, "no"), Outcome: ct.Refused}}},
			clients: client(nil, "t"),
		},
		{
			name: "what was refused arrives", history: ct.History{Published: []ct.Publishing{{Entry: on("t", broadcast.ID{}, "no"), Outcome: ct.Refused}}},
			clients: client(got("t", at, 1, "no"), "t"), violate: []ct.Rule{ct.RuleRefused},
		},
		{
			name:    "what was refused is in the engine",
			history: ct.History{Published: []ct.Publishing{{Entry: on("u", broadcast.ID{}, "no"), Outcome: ct.Refused}}, Kept: []ct.Entry{on("u", at(1), "no")}},
			clients: client(nil, "t"), violate: []ct.Rule{ct.RuleRefused},
		},
		{
			name: "what had no answer arrives", history: ct.History{Published: []ct.Publishing{{Entry: on("t", broadcast.ID{}, "perhaps"), Outcome: ct.Unknown}}},
			clients: client(got("t", at, 1, "perhaps"), "t"),
		},
		{
			name: "what nobody published arrives", history: ct.History{Loses: true},
			clients: client(got("t", at, 1, "forged"), "t"), violate: []ct.Rule{ct.RuleOrigin},
		},
		{
			name: "a message arrives on another topic", history: ct.History{Published: []ct.Publishing{{Entry: on("t", broadcast.ID{}, "one"), Outcome: ct.Unknown}}},
			clients: client(got("u", at, 1, "one"), "u"), violate: []ct.Rule{ct.RuleOrigin},
		},
	})
}

// No ID is given twice, and no message is stored twice.
func TestOracleOfIDs(t *testing.T) {
	judge(t, []judged{
		{
			name: "an ID is acknowledged twice", history: ct.History{Loses: true, Published: append(acked("t", 1, "one"), acked("t", 1, "other")...)},
			violate: []ct.Rule{ct.RuleID},
		},
		{
			name: "an ID is acknowledged for one message and delivered for another", history: ct.History{Loses: true,
				Published: append(acked("t", 1, "one"), ct.Publishing{Entry: on("t", broadcast.ID{}, "other"), Outcome: ct.Unknown})},
			clients: client(got("t", at, 1, "other"), "t"), violate: []ct.Rule{ct.RuleID},
		},
		{
			name: "two clients get two messages under one ID", history: ct.History{Loses: true, Published: []ct.Publishing{
				{Entry: on("t", broadcast.ID{}, "one"), Outcome: ct.Unknown}, {Entry: on("t", broadcast.ID{}, "other"), Outcome: ct.Unknown}}},
			clients: append(client(got("t", at, 1, "one"), "t"), client(got("t", at, 1, "other"), "t")...),
			violate: []ct.Rule{ct.RuleID},
		},
		{
			name: "a message is stored twice", history: ct.History{Published: acked("t", 1, "one"), Kept: []ct.Entry{on("t", at(1), "one"), on("t", at(2), "one")}},
			clients: client(events(got("t", at, 1, "one"), got("t", at, 2, "one")), "t"), violate: []ct.Rule{ct.RuleID},
		},
		{
			name: "the engine has lost what it acknowledged, and is said to lose nothing", history: ct.History{Published: acked("t", 1, "one")},
			clients: client(got("t", at, 1, "one"), "t"), violate: []ct.Rule{ct.RuleStored},
		},
	})
}

// Each client gets the last message of its topics.
func TestOracleOfLast(t *testing.T) {
	judge(t, []judged{
		{
			name: "the last message", history: ct.History{Loses: true, Published: last(acked("t", 1, "one", "two"))},
			clients: client(got("t", at, 1, "one", "two"), "t"),
		},
		{
			name: "a gap instead of the last message", history: ct.History{Loses: true, Published: last(acked("t", 1, "one", "two"))},
			clients: client(events(got("t", at, 1, "one"), gap(at(2))), "t"), violate: []ct.Rule{ct.RuleLast},
		},
		{
			name: "the last message of a topic that the client does not have", history: ct.History{Loses: true, Published: last(acked("u", 1, "one"))},
			clients: client(nil, "t"),
		},
	})
}

// judge checks that the oracle accepts the histories, or names the rules that they violate.
func judge(t *testing.T, all []judged) {
	for _, test := range all {
		t.Run(test.name, func(t *testing.T) {
			h := test.history
			h.Clients = test.clients
			if h.Kept == nil && !h.Loses && len(test.violate) == 0 {
				for _, p := range h.Published {
					if p.Outcome == ct.Acknowledged {
						h.Kept = append(h.Kept, p.Entry)
					}
				}
			}
			violates(t, h, test.violate...)
		})
	}
}

// violates checks which rules a history violates. That the engine lacks what it acknowledged
// counts only where it is meant.
func violates(t *testing.T, h ct.History, want ...ct.Rule) {
	t.Helper()
	found := make(map[ct.Rule]bool)
	violations := h.Check()
	for _, v := range violations {
		found[v.Rule] = true
	}
	if len(want) != 1 || want[0] != ct.RuleStored {
		delete(found, ct.RuleStored)
	}
	for _, rule := range want {
		assert.True(t, found[rule], "%q is violated, and the oracle found only %v", rule, violations)
		delete(found, rule)
	}
	assert.Empty(t, found, "%v", violations)
}

// last marks the last of some publishings.
func last(ps []ct.Publishing) []ct.Publishing {
	ps[len(ps)-1].Last = true
	return ps
}

package clustertest_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	ct "github.com/fanfare-go/fanfare/internal/clustertest"
)

// samples returns those of server 1 from a tick to another.
func samples(from, to int, following bool) (ss []ct.Sample) {
	for i := from; i < to; i++ {
		ss = append(ss, ct.Sample{Server: 1, At: i, Following: following})
	}
	return ss
}

// moving returns samples in which the position rises.
func moving(ss []ct.Sample) []ct.Sample {
	for i := range ss {
		ss[i].Position = at(uint64(ss[i].At) + 1)
	}
	return ss
}

// The oracle knows a stream that is silent and believed healthy from one that is excused.
func TestOracleOfSilence(t *testing.T) {
	connected := []ct.Event{{Kind: ct.Connected, At: 1, Server: 1}}
	for _, test := range []struct {
		name    string
		events  []ct.Event
		samples []ct.Sample
		violate []ct.Rule
	}{
		{name: "silent while its server follows", events: connected, samples: samples(0, 50, true), violate: []ct.Rule{ct.RuleSilence}},
		{name: "its server says that it does not follow", events: connected, samples: append(samples(0, 10, true), append(samples(10, 40, false), samples(40, 50, true)...)...)},
		{name: "its server noticed too late", events: connected, samples: append(samples(0, 30, true), append(samples(30, 40, false), samples(40, 50, true)...)...), violate: []ct.Rule{ct.RuleSilence}},
		{name: "it was not connected", samples: samples(0, 50, true)},
		{
			name:   "it has lost its connection in time",
			events: append(connected[:1:1], ct.Event{Kind: ct.Disconnected, At: 8, Server: 1}), samples: samples(0, 50, true),
		},
		{
			name:   "it got the message before Publish returned",
			events: append(connected[:1:1], ct.Event{At: 4, Entry: on("t", at(1), "one")}), samples: samples(0, 50, true),
		},
		{
			name:   "it got the message in time",
			events: append(connected[:1:1], ct.Event{At: 24, Entry: on("t", at(1), "one")}), samples: samples(0, 50, true),
		},
		{
			name:   "it got the message late",
			events: append(connected[:1:1], ct.Event{At: 26, Entry: on("t", at(1), "one")}), samples: samples(0, 50, true), violate: []ct.Rule{ct.RuleSilence},
		},
		{
			name:   "it got a gap in time",
			events: append(connected[:1:1], ct.Event{Kind: ct.Gap, At: 20, Entry: ct.Entry{ID: at(1)}}), samples: samples(0, 50, true),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := ct.History{Loses: true, Patience: 20, Samples: test.samples, Clients: client(test.events, "t")}
			h.Published = []ct.Publishing{{Entry: on("t", at(1), "one"), At: 5}}
			found := 0
			for _, v := range h.Check() {
				if v.Rule == ct.RuleSilence {
					found++
				} else {
					require.Equal(t, ct.RuleMissing, v.Rule, "no gap excuses the message where the client got nothing")
				}
			}
			require.Equal(t, len(test.violate), found)
		})
	}
}

// The oracle compares Following with when the engine was away, and with what a server takes.
func TestOracleOfFollowing(t *testing.T) {
	away := []ct.Span{{From: 10, To: 60}}
	for _, test := range []struct {
		name    string
		samples []ct.Sample
		away    []ct.Span
		violate []ct.Rule
	}{
		{name: "it follows while the engine is there", samples: samples(0, 80, true)},
		{name: "it notices in time that the engine is away", samples: append(samples(0, 29, true), append(samples(29, 65, false), samples(65, 80, true)...)...), away: away},
		{name: "it never notices", samples: samples(0, 80, true), away: away, violate: []ct.Rule{ct.RuleFollowing}},
		{name: "it notices too late", samples: append(samples(0, 40, true), append(samples(40, 60, false), samples(60, 80, true)...)...), away: away, violate: []ct.Rule{ct.RuleFollowing}},
		{name: "it changes its mind", samples: append(samples(0, 20, true), append(samples(20, 50, false), samples(50, 80, true)...)...), away: away, violate: []ct.Rule{ct.RuleFollowing}},
		{name: "it never follows again", samples: append(samples(0, 15, true), samples(15, 80, false)...), away: away, violate: []ct.Rule{ct.RuleFollowing}},
		{name: "the engine is away at the end", samples: append(samples(0, 15, true), samples(15, 80, false)...), away: []ct.Span{{From: 10, To: math.MaxInt}}},
		{name: "it denies that it follows and takes entries", samples: append(moving(samples(0, 40, false)), samples(40, 80, true)...), violate: []ct.Rule{ct.RuleFollowing}},
		{name: "it denies for a moment that it follows", samples: append(moving(samples(0, 20, false)), samples(20, 80, true)...)},
		{name: "it does not follow and takes nothing", samples: append(samples(0, 40, false), samples(40, 80, true)...)},
	} {
		t.Run(test.name, func(t *testing.T) {
			violates(t, ct.History{Patience: 20, Samples: test.samples, Away: test.away}, test.violate...)
		})
	}
}

package clustertest

import (
	"cmp"
	"slices"

	"github.com/fanfare-go/fanfare/broadcast"
)

// History is what publishers, clients, servers and an engine did. [History.Check] compares
// it with the rules.
//
// Its times are ticks of a clock that stands still while the machine does not run the tests,
// so that a slow machine is not taken for a silent stream.
type History struct {
	Published []Publishing
	Kept      []Entry // what the engine has at the end
	Clients   []Client
	Samples   []Sample
	Away      []Span // when the engine did not answer the servers

	// Loses says that the engine may lose what it has acknowledged. Otherwise each gap stands
	// for missing messages, and there is one epoch.
	Loses bool

	// Patience is how many ticks a stream may be silent, and Stats().Following may be wrong,
	// before that counts.
	Patience int

	// LongestSilence is set by Check: for how many ticks a stream got nothing while messages on
	// its topics were acknowledged and its server said that it follows.
	LongestSilence int
}

// Entry is a message of the log.
type Entry struct {
	ID    broadcast.ID
	Topic string
	Text  string // no two messages have the same
}

// Publishing is one call of Publish.
type Publishing struct {
	Entry   // with the ID that Publish returned
	Outcome Outcome
	At      int  // when Publish returned
	Last    bool // it is the last message of its topic, which each client must get
}

// Outcome is what Publish has returned.
type Outcome int

const (
	Acknowledged Outcome = iota // nil: the engine has the message
	Refused                     // ErrNotPublished: the message never arrives
	Unknown                     // another error: the message may arrive
)

// Client is what one client got.
type Client struct {
	Name   string
	Topics []string
	Begin  broadcast.ID // the position after which it began
	Events []Event      // in their order
}

// Event is something that a client observed.
type Event struct {
	Kind  EventKind
	At    int
	Entry          // of a message; a gap has only the ID
	Lost  []string // the topics of a gap; nil: all of the client's

	Server int // of Connected and Disconnected
}

// EventKind is the kind of an Event.
type EventKind int

const (
	Message      EventKind = iota // it got a message
	Gap                           // it got a gap
	Connected                     // its connection to a server began
	Disconnected                  // its connection to a server ended
)

// hasPosition reports whether an event moved the client's position.
func (e Event) hasPosition() bool { return e.Kind == Message || e.Kind == Gap }

// covers reports whether an event is a gap in a topic.
func (e Event) covers(topic string) bool {
	return e.Kind == Gap && (e.Lost == nil || slices.Contains(e.Lost, topic))
}

// Sample is what a server said of itself at a time.
type Sample struct {
	Server    int
	At        int
	Following bool
	Position  broadcast.ID
}

// Span is a time. It ends before To.
type Span struct{ From, To int }

// epochs is the order of epochs: that in which clients went through them; where no client
// tells, that in which they were first seen. An epoch in which messages were acknowledged, but
// which no client has entered and the engine has not kept, was lost on the losing side of a
// split. It stands before the last one, so that the gap there excuses what was lost with it.
type epochs map[uint64]int

// position is an ID with the number of its epoch instead of the epoch.
type position struct {
	epoch int
	seq   uint64
}

func (e epochs) position(id broadcast.ID) position { return position{e[id.Epoch()], id.Seq()} }

func (p position) compare(q position) int {
	return cmp.Or(cmp.Compare(p.epoch, q.epoch), cmp.Compare(p.seq, q.seq))
}

// order returns the order of the epochs, and whether all clients went through them in it.
func (h *History) order() (order epochs, agreed bool) {
	seen := make(map[uint64]int)     // when each was seen first
	entered := make(map[uint64]bool) // by a client, or kept by the engine
	see := func(id broadcast.ID, at int) {
		if first, ok := seen[id.Epoch()]; !ok || at < first {
			seen[id.Epoch()] = at
		}
	}
	before := make(map[uint64][]uint64) // the epochs that clients left for one
	for _, c := range h.Clients {
		last := c.Begin
		see(last, 0)
		entered[last.Epoch()] = true
		for _, e := range c.Events {
			if !e.hasPosition() {
				continue
			}
			see(e.ID, e.At)
			entered[e.ID.Epoch()] = true
			if e.ID.Epoch() != last.Epoch() {
				before[e.ID.Epoch()] = append(before[e.ID.Epoch()], last.Epoch())
			}
			last = e.ID
		}
	}
	end := 0
	for _, p := range h.Published {
		end = max(end, p.At)
		if p.Outcome == Acknowledged {
			see(p.ID, p.At)
		}
	}
	for _, e := range h.Kept {
		see(e.ID, end)
		entered[e.ID.Epoch()] = true
	}
	order, agreed = sortEpochs(seen, before)
	if len(order) > 1 {
		order.moveLost(entered)
	}
	return order, agreed
}

// moveLost moves epochs that are not entered before the last one that is.
func (e epochs) moveLost(entered map[uint64]bool) {
	byPlace := make([]uint64, len(e))
	for epoch, place := range e {
		byPlace[place] = epoch
	}
	var kept, lost []uint64
	for _, epoch := range byPlace {
		if entered[epoch] {
			kept = append(kept, epoch)
		} else {
			lost = append(lost, epoch)
		}
	}
	if len(kept) < 2 {
		return // no client has got a gap for them
	}
	for place, epoch := range slices.Concat(kept[:len(kept)-1], lost, kept[len(kept)-1:]) {
		e[epoch] = place
	}
}

// sortEpochs sorts epochs by when they were seen first, but none before those that stand
// before it.
func sortEpochs(seen map[uint64]int, before map[uint64][]uint64) (order epochs, agreed bool) {
	order, agreed = make(epochs), true
	for len(order) < len(seen) {
		var next, earliest uint64
		nextAt, earliestAt := -1, -1
		for epoch, at := range seen {
			if _, placed := order[epoch]; placed {
				continue
			}
			if earliestAt < 0 || at < earliestAt || at == earliestAt && epoch < earliest {
				earliest, earliestAt = epoch, at
			}
			ready := !slices.ContainsFunc(before[epoch], func(b uint64) bool { _, placed := order[b]; return !placed })
			if ready && (nextAt < 0 || at < nextAt || at == nextAt && epoch < next) {
				next, nextAt = epoch, at
			}
		}
		if nextAt < 0 {
			next, agreed = earliest, false // they stand in a circle
		}
		order[next] = len(order)
	}
	return order, agreed
}

package clustertest

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Rule is a rule that a history may violate.
type Rule string

const (
	// RuleOrder: positions rise within an epoch, an epoch that was left does not come back,
	// and no message comes twice in an epoch.
	RuleOrder Rule = "in order and once"

	// RuleMissing: where a client misses a message of a topic, it got a gap in that topic
	// between the messages of the topic before and after the missing one.
	RuleMissing Rule = "a gap where something is missing"

	// RuleGap: a gap stands where something is missing.
	RuleGap Rule = "no gap where nothing is missing"

	// RuleEpoch: the first that a client gets in another epoch is a gap in all topics.
	RuleEpoch Rule = "each change of epoch has a gap"

	// RuleOrigin: nothing arrives that was not published, on that topic and under that ID.
	RuleOrigin Rule = "what arrives was published"

	// RuleRefused: what Publish has refused never arrives.
	RuleRefused Rule = "what was refused never arrives"

	// RuleID: no two messages have the same ID, and no message has two in an epoch.
	RuleID Rule = "no ID is given twice"

	// RuleStored: an engine that loses nothing has what it has acknowledged.
	RuleStored Rule = "the engine has what it acknowledged"

	// RuleLast: each client gets the last message of each of its topics. No gap excuses it.
	RuleLast Rule = "nobody is left without the last message"

	// RuleFollowing: a server follows if and only if the engine answers it.
	RuleFollowing Rule = "Following agrees with reality"

	// RuleSilence: no client is connected to a server that says it follows, and gets nothing
	// while messages on its topics are acknowledged.
	RuleSilence Rule = "no stream is silent and believed healthy"
)

// Violation says which rule was violated, and how.
type Violation struct {
	Rule Rule
	Text string
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s", v.Rule, v.Text) }

// Check returns how the history violates the rules.
func (h *History) Check() []Violation {
	o := &oracle{History: h}
	var agreed bool
	if o.order, agreed = h.order(); !agreed {
		o.add(RuleOrder, "clients went through the epochs in different orders")
	}
	o.collect()
	o.checkPublished()
	for i := range h.Clients {
		c := &h.Clients[i]
		o.checkOrder(c)
		o.checkOrigin(c)
		o.checkMissing(c)
		o.checkLast(c)
		o.checkSilence(c)
	}
	o.checkFollowing()
	h.LongestSilence = o.silent.longest
	return o.violations
}

// oracle is one Check.
type oracle struct {
	*History
	violations []Violation

	order  epochs
	byText map[string]*Publishing
	known  map[broadcast.ID]Entry // every message that is known to have been in the log
	topics map[string][]Entry     // the same by topic, sorted
	silent silences
}

func (o *oracle) add(r Rule, format string, args ...any) {
	o.violations = append(o.violations, Violation{r, fmt.Sprintf(format, args...)})
}

// collect gathers what was in the log: what was acknowledged, what clients got and what the
// engine has at the end. An ID that two messages have violates a rule.
func (o *oracle) collect() {
	o.byText = make(map[string]*Publishing)
	o.known = make(map[broadcast.ID]Entry)
	type textOf struct {
		epoch uint64
		text  string
	}
	ids := make(map[textOf]broadcast.ID)
	note := func(e Entry, where string) {
		if had, ok := o.known[e.ID]; !ok {
			o.known[e.ID] = e
		} else if had != e {
			o.add(RuleID, "%v is %q on %s, and %s %q on %s", e.ID, had.Text, had.Topic, where, e.Text, e.Topic)
		}
		of := textOf{e.ID.Epoch(), e.Text}
		if had, ok := ids[of]; !ok {
			ids[of] = e.ID
		} else if had != e.ID {
			o.add(RuleID, "%q is %v, and %s %v", e.Text, had, where, e.ID)
		}
	}
	for i := range o.Published {
		p := &o.Published[i]
		o.byText[p.Text] = p
		if p.Outcome == Acknowledged {
			note(p.Entry, "was also acknowledged as")
		}
	}
	for _, e := range o.Kept {
		note(e, "in the engine")
	}
	for _, c := range o.Clients {
		for _, e := range c.Events {
			if e.Kind == Message {
				note(e.Entry, c.Name+" got")
			}
		}
	}
	o.topics = make(map[string][]Entry)
	for _, e := range o.known {
		o.topics[e.Topic] = append(o.topics[e.Topic], e)
	}
	for _, entries := range o.topics {
		slices.SortFunc(entries, func(a, b Entry) int {
			return o.order.position(a.ID).compare(o.order.position(b.ID))
		})
	}
}

// checkPublished compares the outcomes of Publish with what the engine has at the end.
func (o *oracle) checkPublished() {
	kept := make(map[string]bool, len(o.Kept))
	for _, e := range o.Kept {
		kept[e.Text] = true
	}
	for _, p := range o.Published {
		switch {
		case p.Outcome == Refused && kept[p.Text]:
			o.add(RuleRefused, "%q was refused, and the engine has it", p.Text)
		case p.Outcome == Acknowledged && !o.Loses && !kept[p.Text]:
			o.add(RuleStored, "%q was acknowledged as %v", p.Text, p.ID)
		}
	}
}

// checkOrder checks that positions rise, and that each change of epoch has a gap.
func (o *oracle) checkOrder(c *Client) {
	last := c.Begin
	left := make(map[uint64]bool)
	got := make(map[broadcast.ID]bool)
	for _, e := range c.Events {
		if !e.hasPosition() {
			continue
		}
		switch {
		case left[e.ID.Epoch()]:
			o.add(RuleOrder, "%s is at %v again, after %v", c.Name, e.ID, last)
		case e.ID.Epoch() != last.Epoch():
			left[last.Epoch()] = true
			if e.Kind != Gap || e.Lost != nil {
				o.add(RuleEpoch, "%s got %q at %v after %v", c.Name, e.Text, e.ID, last)
			} else if !o.Loses {
				o.add(RuleGap, "%s is in another epoch at %v after %v, and the engine loses nothing", c.Name, e.ID, last)
			}
		case e.ID.Seq() < last.Seq():
			o.add(RuleOrder, "%s got %q at %v after %v", c.Name, e.Text, e.ID, last)
		case e.Kind == Message && (got[e.ID] || e.ID == last && e.ID == c.Begin):
			o.add(RuleOrder, "%s got %v, %q, twice", c.Name, e.ID, e.Text)
		}
		if e.Kind == Message {
			got[e.ID] = true
		}
		last = e.ID
	}
}

// checkOrigin checks that what the client got was published.
func (o *oracle) checkOrigin(c *Client) {
	for _, e := range c.Events {
		if e.Kind != Message {
			continue
		}
		p, ok := o.byText[e.Text]
		switch {
		case !ok:
			o.add(RuleOrigin, "%s got %q at %v, which nobody has published", c.Name, e.Text, e.ID)
		case p.Outcome == Refused:
			o.add(RuleRefused, "%s got %q at %v", c.Name, e.Text, e.ID)
		case p.Topic != e.Topic || !slices.Contains(c.Topics, e.Topic):
			o.add(RuleOrigin, "%s got %q on %s, and it was published on %s", c.Name, e.Text, e.Topic, p.Topic)
		}
	}
}

// checkMissing checks that the client got each message of its topics after its beginning,
// or a gap in its place, and that each gap stands in the place of a message.
func (o *oracle) checkMissing(c *Client) {
	needed := make(map[int]bool) // gaps, by the index of their event
	for _, topic := range c.Topics {
		o.checkTopic(c, topic, needed)
	}
	if o.Loses {
		return
	}
	for i, e := range c.Events {
		if e.Kind == Gap && !needed[i] {
			o.add(RuleGap, "%s got one at %v in %v", c.Name, e.ID, e.Lost)
		}
	}
}

// checkTopic checks the messages of one topic, and notes which gaps were needed.
func (o *oracle) checkTopic(c *Client, topic string, needed map[int]bool) {
	var got []position
	has := make(map[broadcast.ID]bool)
	gaps := make(map[int][]int) // by how many messages the client had before
	for i, e := range c.Events {
		switch {
		case e.covers(topic):
			gaps[len(got)] = append(gaps[len(got)], i)
		case e.Kind == Message && e.Topic == topic:
			got = append(got, o.order.position(e.ID))
			has[e.ID] = true
		}
	}
	begin := o.order.position(c.Begin)
	missing := 0
	var first, last broadcast.ID
	for _, e := range o.topics[topic] {
		at := o.order.position(e.ID)
		if at.compare(begin) <= 0 || has[e.ID] {
			continue
		}
		before, _ := slices.BinarySearchFunc(got, at, position.compare)
		for _, i := range gaps[before] {
			needed[i] = true
		}
		if len(gaps[before]) == 0 {
			missing, first, last = missing+1, cmp.Or(first, e.ID), e.ID
		}
	}
	if missing > 0 {
		o.add(RuleMissing, "%s misses %d of %s, from %v to %v", c.Name, missing, topic, first, last)
	}
}

// checkLast checks that the client got the last message of each topic.
func (o *oracle) checkLast(c *Client) {
	got := make(map[string]bool)
	for _, e := range c.Events {
		if e.Kind == Message {
			got[e.Text] = true
		}
	}
	for _, p := range o.Published {
		if p.Last && p.Outcome == Acknowledged && slices.Contains(c.Topics, p.Topic) && !got[p.Text] {
			o.add(RuleLast, "%s never got %q at %v on %s", c.Name, p.Text, p.ID, p.Topic)
		}
	}
}

package clustertest

import (
	"slices"
)

// silences is what the oracle knows of servers and of time, for its rules on silence and on
// Following.
type silences struct {
	once    bool
	end     int              // the last tick
	samples map[int][]Sample // by server, in the order of time
	acked   map[string][]*Publishing
	longest int // how many ticks a stream was silent and believed healthy
}

// prepare sorts samples by server and publishings by topic, both by time.
func (o *oracle) prepare() {
	s := &o.silent
	if s.once {
		return
	}
	s.once = true
	s.samples = make(map[int][]Sample)
	for _, sample := range o.Samples {
		s.samples[sample.Server] = append(s.samples[sample.Server], sample)
		s.end = max(s.end, sample.At)
	}
	s.acked = make(map[string][]*Publishing)
	for i := range o.Published {
		if p := &o.Published[i]; p.Outcome == Acknowledged {
			s.acked[p.Topic] = append(s.acked[p.Topic], p)
		}
	}
	for _, ps := range s.acked {
		slices.SortStableFunc(ps, func(a, b *Publishing) int { return a.At - b.At })
	}
}

// checkSilence checks that the client was not silent for longer than Patience on a server
// that followed, while messages on its topics were acknowledged.
func (o *oracle) checkSilence(c *Client) {
	o.prepare()
	gotAt := make(map[string]int)
	for _, e := range c.Events {
		if at, ok := gotAt[e.Text]; e.Kind == Message && (!ok || e.At < at) {
			gotAt[e.Text] = e.At
		}
	}
	from := 0
	for _, e := range append(c.Events[:len(c.Events):len(c.Events)], Event{Kind: Gap, At: o.silent.end}) {
		if !e.hasPosition() {
			continue
		}
		if e.At-from > min(o.Patience, o.silent.longest) {
			o.checkQuiet(c, from, e.At, gotAt)
		}
		from = e.At
	}
}

// checkQuiet checks a time in which the client got nothing.
func (o *oracle) checkQuiet(c *Client, from, to int, gotAt map[string]int) {
	worst, server, text := 0, 0, ""
	for _, topic := range c.Topics {
		ps := o.silent.acked[topic]
		first, _ := slices.BinarySearchFunc(ps, from, func(p *Publishing, at int) int { return p.At - at })
		for _, p := range ps[first:] {
			if to-p.At <= worst {
				break
			}
			if at, ok := gotAt[p.Text]; ok && at <= p.At {
				continue
			}
			if s, ticks := o.healthy(c, p.At, to); ticks > worst {
				worst, server, text = ticks, s, p.Text
			}
		}
	}
	o.silent.longest = max(o.silent.longest, worst)
	if worst > o.Patience {
		o.add(RuleSilence, "%s got nothing for %d ticks after %q was acknowledged, and server %d said that it follows", c.Name, worst, text, server)
	}
}

// healthy returns to which server the client was connected at a time, and for how many ticks
// it still was, at most until another time, while that server followed.
func (o *oracle) healthy(c *Client, at, to int) (server, ticks int) {
	connected := false
	for _, e := range c.Events {
		if e.Kind == Message || e.Kind == Gap {
			continue
		}
		if e.At > at {
			if connected && e.At < to {
				to = e.At
			}
			break
		}
		connected, server = e.Kind == Connected, e.Server
	}
	if !connected {
		return server, 0
	}
	last := at
	for _, s := range o.samplesFrom(server, at) {
		if !s.Following || s.At > to {
			break
		}
		last = s.At
	}
	return server, last - at
}

// samplesFrom returns the samples of a server that are not before a time.
func (o *oracle) samplesFrom(server, at int) []Sample {
	all := o.silent.samples[server]
	i, _ := slices.BinarySearchFunc(all, at, func(s Sample, at int) int { return s.At - at })
	return all[i:]
}

// checkFollowing checks that each server followed while the engine answered it, and that it
// did not while the engine did not. What is wrong for less than Patience is not counted.
func (o *oracle) checkFollowing() {
	o.prepare()
	for server, samples := range o.silent.samples {
		for _, span := range o.Away {
			o.checkAway(server, samples, span)
		}
		o.checkDenials(server, samples)
	}
}

// checkAway checks that a server does not follow an engine that has been away for Patience.
func (o *oracle) checkAway(server int, samples []Sample, away Span) {
	wrong, of := 0, 0
	for _, s := range samples {
		if s.At < away.From+o.Patience || s.At >= away.To {
			continue
		}
		of++
		if s.Following {
			wrong++
		}
	}
	if wrong > 0 {
		o.add(RuleFollowing, "server %d followed in %d of %d samples while the engine was away", server, wrong, of)
	}
}

// checkDenials checks that a server does not deny for long that it follows while it takes
// entries, and that it follows at the end.
func (o *oracle) checkDenials(server int, samples []Sample) {
	denials, moved, tooMany := 0, 0, false // in a row; and in how many of them the position moved
	for i, s := range samples {
		if s.Following || o.isAway(s.At) {
			denials, moved = 0, 0
			continue
		}
		denials++
		if i > 0 && s.Position != samples[i-1].Position {
			moved++
		}
		if denials > o.Patience && moved > denials/2 && !tooMany {
			tooMany = true
			o.add(RuleFollowing, "server %d took entries up to %v, and denied for %d ticks that it follows", server, s.Position, denials)
		}
	}
	if last := samples[len(samples)-1]; last.At == o.silent.end && !last.Following && !o.isAway(last.At) {
		o.add(RuleFollowing, "server %d does not follow at the end, and has not for %d ticks; it is at %v", server, denials, last.Position)
	}
}

func (o *oracle) isAway(at int) bool {
	return slices.ContainsFunc(o.Away, func(s Span) bool { return s.From <= at && at < s.To })
}

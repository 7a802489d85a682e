package broadcast

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Retention says what is kept of a topic, where that differs from what the [Hub] keeps of the
// others.
type Retention struct {
	// Keep is how many events are kept, as [Hub.Keep] says. If zero, that.
	Keep int

	// Values is how many values are kept, as [Hub.Values] says. If zero, that.
	Values int

	// TTL is how long an unused topic is kept, as [Hub.TopicTTL] says. If zero, that; if
	// negative, the topic is not forgotten, unless KeepBytes leaves nothing of it.
	TTL time.Duration
}

// classes are the retentions of a Hub's topics. They are guarded by Hub.mu.
type classes struct {
	byPrefix []prefix // the longest first
	all      []class  // the first is that of topics without a prefix
	unused   []unused // lists of unused topics, one for each TTL
}

type prefix struct {
	text  string
	class uint16 // among all
}

// class is what is kept of a topic.
type class struct {
	keep, values int
	unused       int // which list of unused topics
}

// unused is topics without cursors, the longest unused first, that have the same TTL.
type unused struct {
	topicList
	ttl time.Duration // negative: they are not forgotten
}

const maxClasses = 1 << 16

// set makes the classes of a Hub, whose scalar fields are valid.
func (c *classes) set(h *Hub) error {
	if len(h.Retain) >= maxClasses {
		return fmt.Errorf("broadcast: Hub.Retain has %d prefixes, at most %d are allowed", len(h.Retain), maxClasses-1)
	}
	made := classes{}
	made.add(h, Retention{})
	for text, r := range h.Retain {
		switch {
		case r.Keep < 0:
			return fmt.Errorf("broadcast: Hub.Retain[%q].Keep is %d: it must not be negative", text, r.Keep)
		case r.Values < 0:
			return fmt.Errorf("broadcast: Hub.Retain[%q].Values is %d: it must not be negative", text, r.Values)
		}
		made.byPrefix = append(made.byPrefix, prefix{text, made.add(h, r)})
	}
	slices.SortFunc(made.byPrefix, func(a, b prefix) int { return cmp.Compare(len(b.text), len(a.text)) })
	*c = made
	return nil
}

// add adds a class, and returns which it is.
func (c *classes) add(h *Hub, r Retention) uint16 {
	ttl := cmp.Or(r.TTL, h.topicTTL())
	list := slices.IndexFunc(c.unused, func(u unused) bool { return u.ttl == ttl })
	if list < 0 {
		list = len(c.unused)
		c.unused = append(c.unused, unused{ttl: ttl})
	}
	c.all = append(c.all, class{cmp.Or(r.Keep, h.keep()), cmp.Or(r.Values, h.values()), list})
	return uint16(len(c.all) - 1)
}

// of returns the class of a topic's name.
func (c *classes) of(name string) uint16 {
	for _, p := range c.byPrefix {
		if strings.HasPrefix(name, p.text) {
			return p.class
		}
	}
	return 0
}

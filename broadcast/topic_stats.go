package broadcast

// TopicStats is a snapshot of one topic of a Hub.
type TopicStats struct {
	Events        int    // events kept
	Values        int    // Keys that have a value
	Subscriptions int    // open subscriptions to it
	Published     uint64 // messages since this Hub has the topic, with and without a Key; it only grows, so that two snapshots give a rate
	Newest        ID     // of the newest message kept; zero if there is none
	Ended         bool   // by a message with End
}

// TopicNames returns the names of all topics that the Hub keeps, in any order. It holds the Hub's
// lock for about a millisecond per 50,000 topics: a page that shows some of them asks once, and
// then for each with TopicStats.
func (h *Hub) TopicNames() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := make([]string, 0, len(h.kept.topics))
	for name := range h.kept.topics {
		names = append(names, name)
	}
	return names
}

// TopicStats returns a snapshot of a topic, or false if the Hub does not keep it. It makes none.
func (h *Hub) TopicStats(name string) (TopicStats, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.kept.topics[name]
	if t == nil {
		return TopicStats{}, false
	}
	stats := TopicStats{Events: int(t.kept()), Subscriptions: int(t.cursors), Published: t.next, Ended: t.hasEnded.Load()}
	var newest uint64
	if e := t.newestEvent(); e != nil {
		newest = e.msg.ID.seq
	}
	if tb := t.table.Load(); tb != nil {
		stats.Values = tb.values.count
		stats.Published += tb.changes
		for _, last := range []*value{tb.values.newest, tb.removals.newest} {
			if last != nil {
				newest = max(newest, last.seq())
			}
		}
	}
	if newest > 0 {
		stats.Newest = ID{h.epoch, newest}
	}
	return stats, true
}

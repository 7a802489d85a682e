package broadcast

// addKey makes e the newest entry of its Key, and evicts what is then too much of the topic: its
// oldest values, or removals.
func (k *retention) addKey(t *topic, e *entry) {
	tb := t.table.Load()
	if tb == nil {
		tb = new(table) // subscriptions know of the losses up to t.floor
		t.table.Store(tb)
		k.tables.Add(1)
		if t.isUnused {
			k.bytes += tableCost
		}
	}
	e.topic = t
	if replaced := tb.set(e); replaced != nil {
		k.remove(replaced)
	}
	k.append(e)
	k.evictKeys(t, k.classOf(t).values)
}

// evictKeys evicts the oldest values while a topic has more than so many, and the oldest removals
// likewise.
func (k *retention) evictKeys(t *topic, most int) {
	tb := t.table.Load()
	if tb == nil {
		return
	}
	for tb.values.count > most {
		k.evictKey(t, tb.values.oldest.entry)
	}
	for tb.removals.count > most {
		k.evictKey(t, tb.removals.oldest.entry)
	}
}

// evictKey removes a Key from its topic.
func (k *retention) evictKey(t *topic, e *entry) {
	t.table.Load().evict(e, k.classOf(t).values)
	k.remove(e)
}

// loseMaps evicts the Keys of all topics, since they may have changed up to a sequence, and
// forgets which topics have ended.
func (k *retention) loseMaps(seq uint64) {
	for _, t := range k.topics {
		k.setEnded(t, false)
		k.loseKeys(t, seq)
		k.forgetEmpty(t)
	}
}

// loseKeys evicts all Keys of a topic, since they may have changed up to a sequence.
func (k *retention) loseKeys(t *topic, seq uint64) {
	if tb := t.table.Load(); tb != nil {
		tb.lose(seq)
		k.evictKeys(t, 0)
	}
}

// abandonTable lets a topic begin without Keys, in another epoch.
func (k *retention) abandonTable(t *topic) {
	tb := t.table.Load()
	if tb == nil {
		return
	}
	tb.abandon()
	k.tables.Add(-1)
	if t.isUnused {
		k.bytes -= tableCost
	}
	t.table.Store(nil)
}

// startOver forgets the events of a topic because one comes that stands for all of them: a
// position before that has no gap.
func (k *retention) startOver(t *topic) {
	for t.kept() > 0 {
		k.evict(t)
	}
	t.evicted = 0
}

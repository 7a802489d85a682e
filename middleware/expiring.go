package middleware

import "time"

// expiring is a map of what is forgotten after a time. It takes at most about twice as much
// memory as what is not over. The zero value is ready.
type expiring[K comparable, V any] struct {
	entries map[K]expiringEntry[V]
	pruneAt int // how many entries there are before those are removed whose time is over
}

type expiringEntry[V any] struct {
	value V
	until time.Time
}

const minPrune = 1024

// get returns what is known of a key, and until when.
func (e *expiring[K, V]) get(key K) (entry expiringEntry[V], ok bool) {
	entry, ok = e.entries[key]
	return entry, ok && time.Now().Before(entry.until)
}

func (e *expiring[K, V]) set(key K, value V, until time.Time) {
	if e.entries == nil {
		e.entries = make(map[K]expiringEntry[V])
	}
	if len(e.entries) >= max(e.pruneAt, minPrune) {
		now := time.Now()
		for key, entry := range e.entries {
			if !now.Before(entry.until) {
				delete(e.entries, key)
			}
		}
		e.pruneAt = 2 * len(e.entries)
	}
	e.entries[key] = expiringEntry[V]{value, until}
}

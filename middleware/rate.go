package middleware

import (
	"hash/maphash"
	"time"
)

// maxRateKeys is how many keys each generation of rates has, at most.
const maxRateKeys = 1 << 15

// rates has a token bucket for each key: it holds the streams of one second, at least
// one, and is full for a key that is not known. The zero value is ready. It is guarded by
// Limit.mu.
//
// Its memory is bounded for any number of keys: it knows them by a hash, and in two
// generations. A bucket is in the older one until it is used again. When the newer
// generation has lasted until all buckets of the older one are full, or has maxRateKeys,
// it becomes the older one, which is forgotten. So a client is forgotten too early
// only if it is one of tens of thousands.
type rates struct {
	start        time.Time    // of the clock; zero before the first use
	seed         maphash.Seed // of the keys' hashes
	newer, older map[uint64]bucket
	began        time.Duration // when newer began, on the clock
}

// bucket has as many tokens as it had at a time on the clock.
type bucket struct {
	tokens float64
	at     time.Duration
}

// maxRetryAfter is the longest time after which a refused client is sent back.
const maxRetryAfter = 24 * time.Hour

// take removes a token of a key, where perSecond are added. If there is none, it returns
// after which time there will be one.
func (r *rates) take(key string, perSecond float64) (wait time.Duration, ok bool) {
	if r.start.IsZero() {
		r.start, r.seed, r.newer = time.Now(), maphash.MakeSeed(), make(map[uint64]bucket)
	}
	now, most := time.Since(r.start), max(1, perSecond)
	if len(r.newer) >= maxRateKeys || (now-r.began).Seconds()*perSecond >= most {
		r.older, r.newer, r.began = r.newer, make(map[uint64]bucket), now
	}
	hash := maphash.String(r.seed, key)
	b, known := r.newer[hash]
	if !known {
		b, known = r.older[hash]
	}
	tokens := most
	if known {
		tokens = min(most, b.tokens+(now-b.at).Seconds()*perSecond)
	}
	if tokens < 1 {
		wait := (1 - tokens) / perSecond // in seconds, perhaps more of them than a Duration has
		return max(1, time.Duration(min(wait, maxRetryAfter.Seconds())*float64(time.Second))), false
	}
	r.newer[hash] = bucket{tokens - 1, now}
	return 0, true
}

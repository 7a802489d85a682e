package broadcast

import (
	"hash/maphash"
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// table is a topic's map: each Key with its newest message, a value or a removal.
//
// It is read in two ways. Changed walks back from the newest entry, which is all there is to do
// where few Keys have changed. Walk goes through the slots, which stand in the order in which the
// Keys came: a Key keeps its slot when it changes, so that a reader which is slower than the
// changes comes to each Key all the same.
//
// Publishers change it with Hub.mu and mu locked. Polls read it with mu alone, and hold that for
// walkStep slots at most.
type table struct {
	newest atomic.Uint64 // the highest sequence that it has had; stored before it is Hub.head

	// Guarded by Hub.mu.
	keys    map[string]*value
	missing missingKeys
	changes uint64 // how often a Key was set or removed

	// Guarded by mu, which is locked after Hub.mu.
	mu               sync.Mutex
	slots            []slot // their numbers rise
	next             uint64 // the number that the next slot will have
	holes            int    // slots of Keys that were evicted
	values, removals valueList
	lost             losses
}

// losses are the highest sequences that were evicted.
type losses struct{ value, removal uint64 }

// value is a Key's place in its table. It stays the same when the Key changes, or is removed.
type value struct {
	entry        *entry // its newest message; replaced with mu locked
	number       uint64 // of its slot
	older, newer *value // among those of its kind, in the order of the last change
}

// slot is the place of a Key in the order in which they came. It is a hole once that is evicted.
type slot struct {
	number uint64
	value  *value
}

const walkStep = 256

func (v *value) seq() uint64 { return v.entry.msg.ID.seq }

// listOf returns the list that has the values of a message's kind.
func (tb *table) listOf(m *Message) *valueList {
	if m.Removed {
		return &tb.removals
	}
	return &tb.values
}

// set makes e the newest entry of its Key. It returns the one that it replaces, or nil. The
// caller holds Hub.mu.
func (tb *table) set(e *entry) (replaced *entry) {
	key := e.msg.Key
	v := tb.keys[key]
	tb.changes++
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if v == nil {
		if tb.keys == nil {
			tb.keys = make(map[string]*value)
		}
		v = &value{number: tb.next}
		tb.next++
		tb.keys[key] = v
		tb.slots = append(tb.slots, slot{v.number, v})
		tb.missing.remove(key)
	} else {
		replaced = v.entry
		tb.listOf(&replaced.msg).remove(v)
	}
	v.entry = e
	tb.listOf(&e.msg).append(v)
	tb.newest.Store(e.msg.ID.seq)
	return replaced
}

// evict removes a Key, which comes back at the end. At most so many missing Keys are remembered.
// The caller holds Hub.mu.
func (tb *table) evict(e *entry, mostMissing int) {
	v := tb.keys[e.msg.Key]
	delete(tb.keys, e.msg.Key)
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.listOf(&e.msg).remove(v)
	if e.msg.Removed {
		tb.lost.removal = max(tb.lost.removal, e.msg.ID.seq)
	} else {
		tb.lost.value = max(tb.lost.value, e.msg.ID.seq)
		tb.missing.add(e.msg.Key, mostMissing)
	}
	tb.slots[tb.at(v.number)].value = nil
	if tb.holes++; tb.holes > len(tb.slots)/2 {
		tb.compact()
	}
}

// compact removes the holes.
func (tb *table) compact() {
	kept := make([]slot, 0, 2*len(tb.keys))
	for _, s := range tb.slots {
		if s.value != nil {
			kept = append(kept, s)
		}
	}
	tb.slots, tb.holes = kept, 0
}

// lose notes that everything up to a sequence may be lost.
func (tb *table) lose(seq uint64) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.lost = losses{max(tb.lost.value, seq), max(tb.lost.removal, seq)}
}

// abandon lets every reader that still has the table find a loss.
func (tb *table) abandon() { tb.lose(math.MaxUint64) }

// evicted returns what the table has lost.
func (tb *table) evicted() losses {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return tb.lost
}

// find returns the entry of a Key, or nil. The caller holds Hub.mu.
func (tb *table) find(key string) *entry {
	if tb == nil || tb.keys[key] == nil {
		return nil
	}
	return tb.keys[key].entry
}

// isEmpty reports whether nothing is kept. The caller holds Hub.mu.
func (tb *table) isEmpty() bool { return tb == nil || len(tb.keys) == 0 }

// hasUpTo reports whether it has an entry up to a sequence. The caller holds Hub.mu.
func (tb *table) hasUpTo(seq uint64) bool {
	if tb == nil {
		return false
	}
	value, removal := tb.values.oldest, tb.removals.oldest
	return value != nil && value.seq() <= seq || removal != nil && removal.seq() <= seq
}

// exceeds reports whether something was lost that may not be.
func (l losses) exceeds(allowed losses) bool {
	return l.value > allowed.value || l.removal > allowed.removal
}

// at returns where the slot with a number is, or would be.
func (tb *table) at(number uint64) int {
	return sort.Search(len(tb.slots), func(i int) bool { return tb.slots[i].number >= number })
}

// changed fills buf with the entries after a sequence, in order, or reports that they do not
// fit, or that some of them may be lost.
func (tb *table) changed(buf []*Message, after uint64, allowed losses) (n int, fits, lost bool) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if tb.lost.exceeds(allowed) {
		return 0, false, true
	}
	v, removal := tb.values.newest, tb.removals.newest
	for {
		newest := &v
		if v == nil || removal != nil && removal.seq() > v.seq() {
			newest = &removal
		}
		switch {
		case *newest == nil || (*newest).seq() <= after:
			slices.Reverse(buf[:n])
			return n, true, false
		case n == len(buf):
			return 0, false, false
		}
		buf[n] = &(*newest).entry.msg
		*newest = (*newest).older
		n++
	}
}

// walk is a reader's way through a table.
type walk struct {
	table    *table
	after    uint64 // entries up to this sequence are not returned
	live     bool   // nor are removals
	allowed  losses
	next     uint64 // the number of the slot to read next
	end      uint64 // the number before which it ends; set when it begins
	hasBegun bool
}

// read fills buf with the next entries, as they are now. It reports whether there are no more,
// and whether some may be lost; those in buf come before that.
func (w *walk) read(buf []*Message) (n int, done, lost bool) {
	for {
		n, done, lost = w.step(buf, n)
		if done || lost || n == len(buf) {
			return n, done, lost
		}
	}
}

// step reads at most walkStep slots.
func (w *walk) step(buf []*Message, n int) (_ int, done, lost bool) {
	tb := w.table
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if tb.lost.exceeds(w.allowed) {
		return n, false, true
	}
	if !w.hasBegun {
		w.hasBegun, w.end = true, tb.next
	}
	i := tb.at(w.next)
	for range walkStep {
		if i == len(tb.slots) || tb.slots[i].number >= w.end {
			return n, true, false
		}
		if n == len(buf) {
			return n, false, false
		}
		s := tb.slots[i]
		if v := s.value; v != nil && v.seq() > w.after && !(w.live && v.entry.msg.Removed) {
			buf[n] = &v.entry.msg
			n++
		}
		w.next = s.number + 1
		i++
	}
	return n, false, false
}

// newestValues returns the newest values, at most so many, in order.
func (tb *table) newestValues(most int) []*Message {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	var ms []*Message
	for v := tb.values.newest; v != nil && len(ms) < most; v = v.older {
		ms = append(ms, &v.entry.msg)
	}
	slices.Reverse(ms)
	return ms
}

// valueList is a list of values, linked through them.
type valueList struct {
	oldest, newest *value
	count          int
}

func (l *valueList) append(v *value) {
	v.older, v.newer = l.newest, nil
	if l.newest == nil {
		l.oldest = v
	} else {
		l.newest.newer = v
	}
	l.newest = v
	l.count++
}

func (l *valueList) remove(v *value) {
	if v.older == nil {
		l.oldest = v.newer
	} else {
		v.older.newer = v.newer
	}
	if v.newer == nil {
		l.newest = v.older
	} else {
		v.newer.older = v.older
	}
	v.older, v.newer = nil, nil
	l.count--
}

// missingKeys are Keys whose value was evicted, and that were neither set nor removed since. They
// are bounded: when there are too many, that some are missing is remembered for good.
type missingKeys struct {
	seed   maphash.Seed
	hashes map[uint64]struct{}
	more   bool
}

func (k *missingKeys) add(key string, most int) {
	if k.hashes == nil {
		k.seed = maphash.MakeSeed()
		k.hashes = make(map[uint64]struct{})
	}
	if len(k.hashes) >= most {
		k.more = true
		return
	}
	k.hashes[maphash.String(k.seed, key)] = struct{}{}
}

func (k *missingKeys) remove(key string) {
	if len(k.hashes) > 0 {
		delete(k.hashes, maphash.String(k.seed, key))
	}
}

func (k *missingKeys) any() bool { return k.more || len(k.hashes) > 0 }

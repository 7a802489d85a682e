package delivery

import (
	"sync/atomic"

	"github.com/fanfare-go/fanfare/broadcast"
)

// values is the forms without IDs of messages that have a Key, which are those of beginnings
// and of rounds that do not fit. There each Key has one, however old: a thousand streams that
// begin would encode each a thousand times.
type values struct {
	epoch uint64

	// slots has the forms of a message, by its sequence, modulo, in a list. That may have
	// those of other messages as well.
	slots [valueSlots]atomic.Pointer[form]

	// Guarded by forms.mu.
	bytes int // the size of the kept forms
	sweep int // the slot whose forms are dropped next
}

const valueSlots = 16 << 10

func (v *values) slot(seq uint64) *atomic.Pointer[form] { return &v.slots[seq%valueSlots] }

// findValue is find for what values has.
func (f *forms) findValue(c *Codec, id broadcast.ID) *form {
	if v := f.values.Load(); v != nil && v.epoch == id.Epoch() {
		if p := lookup(v.slot(id.Seq()), c, id, false); p != nil {
			return p
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.values.Load()
	if v == nil || v.epoch != id.Epoch() {
		f.dropValues(func(*form) bool { return true })
		v = &values{epoch: id.Epoch()}
		f.values.Store(v)
	}
	return findIn(v.slot(id.Seq()), c, id, false, &v.bytes)
}

// trim drops forms until they are within a bound: those of one slot after the other, in no
// order of age. If the oldest went first, streams that begin one after the other with more
// than is kept would each find nothing. The caller holds forms.mu.
func (v *values) trim(most int) {
	for v.bytes > most {
		dropFrom(&v.slots[v.sweep], func(*form) bool { return true })
		v.sweep = (v.sweep + 1) % valueSlots
	}
}

// dropValues drops the forms that match. The caller holds forms.mu.
func (f *forms) dropValues(matches func(*form) bool) {
	v := f.values.Load()
	if v == nil {
		return
	}
	for i := range v.slots {
		dropFrom(&v.slots[i], matches)
	}
	if v.bytes == 0 {
		f.values.Store(nil)
	}
}

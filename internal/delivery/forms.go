package delivery

import (
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/fanfare-go/fanfare/broadcast"
)

// forms keeps the wire forms of an engine's newest messages, and apart from these what
// beginnings have of Keys. So a message is encoded once for each form however many streams
// send it. They belong to a handler: in the message they would stay in memory for as long as
// the message is kept. All codecs of a handler share the two bounds, since clients choose
// among them.
type forms struct {
	most   int                    // bytes that are kept of either; 0: nothing is. Set before the first use
	recent atomic.Pointer[recent] // of the current epoch
	values atomic.Pointer[values] // of the current epoch

	mu    sync.Mutex // held to change what follows and what is kept
	bytes int        // the size of the kept forms in recent
}

// DefaultCacheBytes is how many bytes of forms a handler keeps by default.
const DefaultCacheBytes = 16 << 20

// recent is the forms of the newest messages of an epoch.
type recent struct {
	epoch  uint64
	newest atomic.Uint64 // the highest sequence so far
	oldest atomic.Uint64 // nothing before it is kept

	// slots has the forms of a message, by its sequence, modulo: the first of a list.
	slots [formSlots]atomic.Pointer[form]
}

const formSlots = 1024

func (r *recent) slot(seq uint64) *atomic.Pointer[form] { return &r.slots[seq%formSlots] }

// form is a message as the bytes that go over the wire.
type form struct {
	codec  *Codec
	id     broadcast.ID
	withID bool // it moves the client's position

	once   sync.Once            // encodes
	frame  []byte               // nil: no client gets the message
	warned atomic.Bool          // a Filter's panic over this message has been logged
	next   atomic.Pointer[form] // another form of the same message

	// Guarded by forms.mu.
	in   *int // the bytes that it is counted in; nil: it is not kept
	size int  // what it counts there
}

// get returns the form of a message: the kept one, or one that is encoded now, and kept
// if the message is recent, or is a Key's in a beginning.
func (f *forms) get(c *Codec, m *broadcast.Message, withID bool, encode func() []byte) *form {
	p, kept := f.find(c, m, withID)
	if !kept {
		return &form{frame: encode()}
	}
	p.once.Do(func() {
		p.frame = encode()
		f.count(p)
	})
	return p
}

// lookup returns the form that a slot has; nil if it has none. It needs no lock.
func lookup(slot *atomic.Pointer[form], c *Codec, id broadcast.ID, withID bool) *form {
	p := slot.Load()
	for p != nil && (p.codec != c || p.id != id || p.withID != withID) {
		p = p.next.Load()
	}
	return p
}

// find returns the form that is kept, a new one if there was none. If the message is too
// old to be kept it reports false, without a lock: many clients may lag that far.
func (f *forms) find(c *Codec, m *broadcast.Message, withID bool) (p *form, kept bool) {
	if f.most == 0 {
		return nil, false
	}
	id := m.ID
	if m.Key != "" && !withID {
		return f.findValue(c, id), true
	}
	if r := f.recent.Load(); r != nil && r.epoch == id.Epoch() {
		if p := lookup(r.slot(id.Seq()), c, id, withID); p != nil {
			return p, true
		}
		if id.Seq() < r.oldest.Load() {
			return nil, false
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.recent.Load()
	if r == nil || r.epoch != id.Epoch() {
		f.clear()
		r = &recent{epoch: id.Epoch()}
		f.recent.Store(r)
	}
	if id.Seq() < r.oldest.Load() {
		return nil, false
	}
	f.advance(r, id.Seq())
	return findIn(r.slot(id.Seq()), c, id, withID, &f.bytes), true
}

// findIn returns the form that a slot has, a new one if there was none, which is counted in
// bytes. The caller holds forms.mu.
func findIn(slot *atomic.Pointer[form], c *Codec, id broadcast.ID, withID bool, bytes *int) *form {
	if p := lookup(slot, c, id, withID); p != nil {
		return p
	}
	p := &form{codec: c, id: id, withID: withID, in: bytes, size: int(unsafe.Sizeof(form{}))}
	p.next.Store(slot.Load())
	slot.Store(p)
	*bytes += p.size
	return p
}

// advance makes room for a sequence: of the newest formSlots sequences each has a slot of
// its own.
func (f *forms) advance(r *recent, seq uint64) {
	newest := r.newest.Load()
	if seq <= newest {
		return
	}
	r.newest.Store(seq)
	if oldest := seq - min(seq, formSlots-1); oldest > r.oldest.Load() {
		f.dropBefore(r, min(oldest, newest+1), nil)
		r.oldest.Store(oldest)
	}
}

// count adds the size of a form that has been encoded, and drops the oldest forms above
// the bound; of the newest message all but this one.
func (f *forms) count(p *form) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.in == nil {
		return // it has been dropped
	}
	p.size += cap(p.frame)
	*p.in += cap(p.frame)
	if v := f.values.Load(); v != nil && p.in == &v.bytes {
		v.trim(f.most)
		return
	}
	r := f.recent.Load()
	for f.bytes > f.most && r.oldest.Load() < r.newest.Load() {
		f.dropBefore(r, r.oldest.Load()+1, nil)
	}
	if f.bytes > f.most && p.in != nil {
		f.dropBefore(r, math.MaxUint64, p)
	}
}

// dropBefore drops the forms of the sequences before one, but for that which is spared,
// and has no older ones kept from now on. The caller holds mu.
func (f *forms) dropBefore(r *recent, seq uint64, spared *form) {
	last := min(seq-1, r.newest.Load())
	for s := r.oldest.Load(); s <= last; s++ {
		dropFrom(r.slot(s), func(p *form) bool { return p != spared })
	}
	if seq <= r.newest.Load() {
		r.oldest.Store(seq)
	}
}

// dropFrom drops the forms of a list that match. Streams may walk through it meanwhile.
// The caller holds mu.
func dropFrom(list *atomic.Pointer[form], matches func(*form) bool) {
	for p := list.Load(); p != nil; p = list.Load() {
		if matches(p) {
			*p.in -= p.size
			p.in = nil
			list.Store(p.next.Load())
		} else {
			list = &p.next
		}
	}
}

// clear drops everything that is recent. The caller holds mu.
func (f *forms) clear() {
	r := f.recent.Load()
	if r == nil {
		return
	}
	dropAll(r, func(*form) bool { return true })
	f.recent.Store(nil)
}

func dropAll(r *recent, matches func(*form) bool) {
	for i := range r.slots {
		dropFrom(&r.slots[i], matches)
	}
}

// enter says that a stream may use a codec, until it calls leave.
func (f *forms) enter(c *Codec) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.streams++
}

// leave drops the forms of a codec that no stream uses any more.
func (f *forms) leave(c *Codec) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.streams--
	if c.streams > 0 {
		return
	}
	matches := func(p *form) bool { return p.codec == c }
	f.dropValues(matches)
	if r := f.recent.Load(); r != nil {
		dropAll(r, matches)
		if f.bytes == 0 {
			f.recent.Store(nil)
		}
	}
}

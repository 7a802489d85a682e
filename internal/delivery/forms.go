package delivery

import (
	"sync"
	"sync/atomic"

	"github.com/fanfare-go/fanfare/broadcast"
)

// forms keeps one wire form of the newest messages, so that a message is encoded once
// however many streams send it. It belongs to a handler: in the message it would stay
// in memory for as long as the message is kept. The zero forms are ready.
type forms struct {
	recent atomic.Pointer[recent] // of the current epoch

	mu    sync.Mutex // held to change what is kept
	bytes int        // the size of the kept forms
}

// recent is the forms of the newest messages of an epoch.
type recent struct {
	epoch  uint64
	newest atomic.Uint64                   // the highest sequence so far
	oldest atomic.Uint64                   // nothing before it is kept
	slots  [formSlots]atomic.Pointer[form] // by sequence, modulo
}

const (
	formSlots = 1024
	formBytes = 16 << 20
)

func (r *recent) slot(seq uint64) *atomic.Pointer[form] { return &r.slots[seq%formSlots] }

// form is a message as the bytes that go over the wire.
type form struct {
	id     broadcast.ID
	once   sync.Once   // encodes
	frame  []byte      // nil: no client gets the message
	size   int         // what it counts in forms.bytes
	warned atomic.Bool // a Filter's panic over this message has been logged
}

// get returns the form of m: the kept one, or one that is encoded now, and kept if m
// is recent.
func (f *forms) get(m *broadcast.Message, encode func() []byte) *form {
	p, kept := f.find(m.ID)
	if !kept {
		return &form{id: m.ID, frame: encode()}
	}
	p.once.Do(func() {
		p.frame = encode()
		f.count(p)
	})
	return p
}

// find returns the form kept for an ID, a new one if there was none. If the message is
// too old to be kept it reports false, without a lock: many clients may lag that far.
func (f *forms) find(id broadcast.ID) (p *form, kept bool) {
	if r := f.recent.Load(); r != nil && r.epoch == id.Epoch() {
		if p := r.slot(id.Seq()).Load(); p != nil && p.id == id {
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
		r = &recent{epoch: id.Epoch()}
		f.recent.Store(r)
		f.bytes = 0
	}
	slot := r.slot(id.Seq())
	old := slot.Load()
	switch {
	case old != nil && old.id == id:
		return old, true
	case id.Seq() < r.oldest.Load():
		return nil, false
	case old != nil:
		f.bytes -= old.size
	}
	p = &form{id: id}
	slot.Store(p)
	if newest := r.newest.Load(); id.Seq() > newest {
		r.newest.Store(id.Seq())
		oldest := id.Seq() - min(id.Seq(), formSlots-1)
		for seq := r.oldest.Load(); seq < oldest && seq <= newest; seq++ {
			f.drop(r, seq)
		}
		r.oldest.Store(max(r.oldest.Load(), oldest))
	}
	return p, true
}

// drop removes the form of a sequence, if there is one. The caller holds mu.
func (f *forms) drop(r *recent, seq uint64) {
	if old := r.slot(seq).Load(); old != nil && old.id.Seq() == seq {
		f.bytes -= old.size
		r.slot(seq).Store(nil)
	}
}

// count adds the size of p, and drops the oldest forms above formBytes.
func (f *forms) count(p *form) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.recent.Load()
	if r.slot(p.id.Seq()).Load() != p {
		return // it has been dropped
	}
	p.size = len(p.frame)
	f.bytes += p.size
	for seq := r.oldest.Load(); f.bytes > formBytes && seq < r.newest.Load(); seq++ {
		f.drop(r, seq)
		r.oldest.Store(seq + 1)
	}
}

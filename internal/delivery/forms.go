package delivery

import (
	"sync"
	"sync/atomic"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Forms keeps one wire form of the most recent messages, so that a message is
// encoded once however many streams send it. It belongs to a handler and not to
// the message, which would keep it as long as the message is kept. The zero
// value is ready.
type Forms struct {
	recent atomic.Pointer[recent] // of the epoch that is current

	mu    sync.Mutex // held to change what is kept
	bytes int        // what the kept forms take
}

// recent are the forms of the newest messages of an epoch.
type recent struct {
	epoch  uint64
	newest atomic.Uint64                   // the highest sequence that has come
	oldest atomic.Uint64                   // nothing before it is kept
	slots  [formSlots]atomic.Pointer[form] // by sequence, modulo
}

const (
	formSlots = 1024
	formBytes = 16 << 20
)

func (r *recent) slot(seq uint64) *atomic.Pointer[form] { return &r.slots[seq%formSlots] }

// form is a message in the bytes that go over the wire; nil if none do.
type form struct {
	id     broadcast.ID
	mu     sync.Mutex // held to encode
	done   atomic.Bool
	frame  []byte
	size   int         // what it counts in Forms.bytes
	warned atomic.Bool // a Filter's panic over this message has been logged
}

// get returns the form of m: the one that is kept, or else encoded now, and kept
// if m is recent.
func (f *Forms) get(m *broadcast.Message, encode func(*broadcast.Message) []byte) *form {
	p, kept := f.find(m.ID)
	if !kept {
		p = &form{id: m.ID, frame: encode(m)}
		return p
	}
	if p.done.Load() {
		return p
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.done.Load() {
		p.frame = encode(m)
		p.done.Store(true)
		f.count(p)
	}
	return p
}

// find returns the form kept for an ID, a new one if there was none. It reports
// false, without waiting for anybody, if the message is too old to be kept: many
// clients may be far behind.
func (f *Forms) find(id broadcast.ID) (p *form, kept bool) {
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

// drop lets go of a form, if it is there. The caller holds mu.
func (f *Forms) drop(r *recent, seq uint64) {
	if old := r.slot(seq).Load(); old != nil && old.id.Seq() == seq {
		f.bytes -= old.size
		r.slot(seq).Store(nil)
	}
}

// count adds what p takes, and lets go of the oldest if that is too much.
func (f *Forms) count(p *form) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.recent.Load()
	if r.slot(p.id.Seq()).Load() != p {
		return // not kept any more
	}
	p.size = len(p.frame)
	f.bytes += p.size
	for seq := r.oldest.Load(); f.bytes > formBytes && seq < r.newest.Load(); seq++ {
		f.drop(r, seq)
		r.oldest.Store(seq + 1)
	}
}

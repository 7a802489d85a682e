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
	slots atomic.Pointer[[formSlots]atomic.Pointer[form]] // by sequence, modulo

	mu     sync.Mutex // guards what follows and what slots holds
	epoch  uint64
	newest uint64 // the highest sequence that has come
	low    uint64 // what lies before it is not kept, for size
	bytes  int
}

const (
	formSlots = 1024
	formBytes = 16 << 20
)

// form is a message in the bytes that go over the wire; nil if none do.
type form struct {
	id     broadcast.ID
	done   atomic.Bool
	mu     sync.Mutex
	frame  []byte
	size   int // counted in Forms.bytes
	warned atomic.Bool
}

// get returns the form of m, encoded now if it is not kept.
func (f *Forms) get(m *broadcast.Message, encode func(*broadcast.Message) []byte) *form {
	p := f.find(m.ID)
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

// find returns the form for an ID: the one that is kept, or a new one, which is
// kept unless newer messages have its place.
func (f *Forms) find(id broadcast.ID) *form {
	if slots := f.slots.Load(); slots != nil {
		if p := slots[id.Seq()%formSlots].Load(); p != nil && p.id == id {
			return p
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	slots := f.slots.Load()
	if slots == nil || f.epoch != id.Epoch() {
		slots = new([formSlots]atomic.Pointer[form])
		f.slots.Store(slots)
		f.epoch, f.newest, f.low, f.bytes = id.Epoch(), 0, 0, 0
	}
	slot := &slots[id.Seq()%formSlots]
	old := slot.Load()
	if old != nil && old.id == id {
		return old
	}
	p := &form{id: id}
	if id.Seq() < f.low || id.Seq()+formSlots <= f.newest {
		return p
	}
	if old != nil {
		f.bytes -= old.size
	}
	slot.Store(p)
	f.newest = max(f.newest, id.Seq())
	f.low = max(f.low, f.newest-min(f.newest, formSlots-1))
	return p
}

// count adds what p takes, and lets go of the oldest if that is too much.
func (f *Forms) count(p *form) {
	f.mu.Lock()
	defer f.mu.Unlock()
	slots := f.slots.Load()
	if slots[p.id.Seq()%formSlots].Load() != p {
		return
	}
	p.size = len(p.frame)
	for f.bytes += p.size; f.bytes > formBytes && f.low < f.newest; f.low++ {
		slot := &slots[f.low%formSlots]
		if old := slot.Load(); old != nil && old.id.Seq() == f.low {
			f.bytes -= old.size
			slot.Store(nil)
		}
	}
}

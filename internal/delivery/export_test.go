package delivery

import (
	"net/http"
	"unsafe"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Signal is a signal whose state can be set and read.
type Signal struct{ signal }

// The states of a Signal.
const (
	Writing  = writing
	Notified = notified
	Idle     = idle
)

func (s *Signal) State() int32         { return s.word.Load() }
func (s *Signal) SetState(state int32) { s.word.Store(state) }
func (s *Signal) Notify() bool         { return s.notify() }
func (s *Signal) Begin()               { s.begin() }
func (s *Signal) Rest() bool           { return s.rest() }

// Forms is forms.
type Forms struct{ forms }

// NewForms returns forms of this bound.
func NewForms(most int) *Forms { return &Forms{forms{most: most}} }

func (f *Forms) Get(c *Codec, m *broadcast.Message, withID bool, encode func() []byte) []byte {
	return f.get(c, m, withID, encode).frame
}

func (f *Forms) Enter(c *Codec) { f.enter(c) }
func (f *Forms) Leave(c *Codec) { f.leave(c) }

// Bytes returns the size of what is kept of recent messages.
func (f *Forms) Bytes() int { return f.bytes }

// ValueBytes returns the size of what is kept of older values.
func (f *Forms) ValueBytes() int {
	if v := f.values.Load(); v != nil {
		return v.bytes
	}
	return 0
}

// Servers counts the http.Servers that an engine knows.
func (e *Engine) Servers() int {
	e.servers.mu.Lock()
	defer e.servers.mu.Unlock()
	return len(e.servers.all)
}

// ServerOf lets the engine know the server of a request.
func (e *Engine) ServerOf(r *http.Request) { e.servers.of(r) }

const (
	FormSlots = formSlots
	FormSize  = int(unsafe.Sizeof(form{}))
	MaxWrite  = maxWrite
)

// NewEngine returns an engine with this configuration.
func NewEngine(c Config) *Engine {
	e := new(Engine)
	e.Configure(c)
	return e
}

// Ticks counts the ticks that the clock has before it, of all streams.
func (e *Engine) Ticks() int {
	e.clock.mu.Lock()
	defer e.clock.mu.Unlock()
	return len(e.clock.ticks)
}

package watch

import (
	"sync"
	"syscall"
)

// Target is what a [Watch] calls.
type Target interface {
	// Ready is called after something has happened to the socket: several times for one
	// event or once for several. The next call comes only after something new, so that
	// whatever the socket has must be read, or is not wanted. Ready must not block. It may
	// be called once more shortly after Remove.
	Ready()
}

// Events are what a socket is watched for.
type Events uint32

// Token names a socket that is watched; 0: none. No two sockets of a Watch have the same
// one, also if the kernel gives the descriptor of a closed socket to another.
type Token uint64

// Watch watches sockets. Its goroutine and its descriptor exist only while there is a
// socket to watch. The zero Watch is ready, and must not be copied.
type Watch struct {
	// Guarded by mu.
	mu         sync.Mutex
	poller     *poller // nil while nothing is watched
	watched    int
	slots      []slot   // what a token names
	free       []uint32 // the slots that are free again
	generation uint32   // of the newest token
}

// slot is what one socket has in a Watch. A token has the slot's index and its generation.
type slot struct {
	target     Target
	generation uint32
}

// Add watches a socket, and calls target when one of the events has happened, also if that
// was before. It reports false if the socket cannot be watched. A connection is watched once.
func (w *Watch) Add(socket syscall.RawConn, events Events, target Target) (Token, bool) {
	if socket == nil {
		return 0, false
	}
	p, token := w.reserve(target)
	if p == nil {
		return 0, false
	}
	if !p.add(socket, events, token) {
		w.release(token)
		return 0, false
	}
	return token, true
}

// Remove ends the watch over a socket. Call it before the socket is closed: if the
// descriptor has a duplicate, the kernel would go on watching that. More calls, and those
// with a Token of 0, do nothing.
func (w *Watch) Remove(socket syscall.RawConn, token Token) {
	if p := w.pollerOf(token); p != nil {
		p.remove(socket) // before another socket can have the slot
		w.release(token)
	}
}

// reserve returns a slot for a socket, and the poller, which is not closed before release.
// The poller is nil if the system has none.
func (w *Watch) reserve(target Target) (*poller, Token) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.poller == nil {
		if w.poller = newPoller(); w.poller == nil {
			return nil, 0
		}
		go w.run(w.poller)
	}
	w.watched++
	index := uint32(len(w.slots))
	if n := len(w.free); n > 0 {
		index, w.free = w.free[n-1], w.free[:n-1]
	} else {
		w.slots = append(w.slots, slot{})
	}
	if w.generation++; w.generation == 0 {
		w.generation++ // no token is 0
	}
	w.slots[index] = slot{target, w.generation}
	return w.poller, Token(w.generation)<<32 | Token(index)
}

// release frees a slot. The last one ends the goroutine.
func (w *Watch) release(token Token) {
	if unused := w.freeSlot(token); unused != nil {
		unused.close()
	}
}

// freeSlot returns the poller if it watches nothing any more.
func (w *Watch) freeSlot(token Token) (unused *poller) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.slot(token)
	if s == nil {
		return nil
	}
	s.target = nil
	w.free = append(w.free, uint32(token))
	if w.watched--; w.watched == 0 {
		unused = w.poller
		w.poller, w.slots, w.free = nil, nil, nil
	}
	return unused
}

// slot returns the slot of a token; nil if it is another's by now. The caller has locked mu.
func (w *Watch) slot(token Token) *slot {
	index, generation := uint64(uint32(token)), uint32(token>>32)
	if index >= uint64(len(w.slots)) || w.slots[index].generation != generation || w.slots[index].target == nil {
		return nil
	}
	return &w.slots[index]
}

// pollerOf returns what watches a socket; nil if it is not watched.
func (w *Watch) pollerOf(token Token) *poller {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.slot(token) == nil {
		return nil
	}
	return w.poller
}

// run calls the targets of p until p is closed.
func (w *Watch) run(p *poller) {
	var tokens [batch]Token
	for {
		n := p.wait(&tokens)
		if n == 0 {
			return
		}
		for _, token := range tokens[:n] {
			if target := w.target(p, token); target != nil {
				target.Ready()
			}
		}
	}
}

// batch is how many events are fetched at once.
const batch = 64

// target returns the target of a token that p has reported; nil if it was removed.
func (w *Watch) target(p *poller, token Token) Target {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.poller != p { // the slots are another's
		return nil
	}
	s := w.slot(token)
	if s == nil {
		return nil
	}
	return s.target
}

package ws

import (
	"container/list"
	"context"
	"sync"
)

// turn is a lock that goes to those who wait for it in their order, and that can be
// waited for no longer than a context lasts. The zero turn is free. It takes a quarter
// of what a channel does.
type turn struct {
	mu      sync.Mutex
	taken   bool
	waiting *list.List // of the channels that tell whose turn it is; nil before the first
}

// take waits for the turn, at most until ctx ends.
func (t *turn) take(ctx context.Context) error {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return nil
	}
	if t.waiting == nil {
		t.waiting = list.New()
	}
	mine := make(chan struct{})
	place := t.waiting.PushBack(mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-mine: // meanwhile
		return nil
	default:
		t.waiting.Remove(place)
		return context.Cause(ctx)
	}
}

// wait waits for the turn as long as it takes.
func (t *turn) wait() { _ = t.take(context.Background()) }

// tryTake takes the turn if nobody has it.
func (t *turn) tryTake() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken {
		return false
	}
	t.taken = true
	return true
}

// letGo gives the turn to who has waited longest.
func (t *turn) letGo() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting == nil || t.waiting.Len() == 0 {
		t.taken = false
		return
	}
	close(t.waiting.Remove(t.waiting.Front()).(chan struct{}))
}

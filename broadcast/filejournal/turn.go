package filejournal

import (
	"context"
	"sync"
)

// turn lets one goroutine at a time do I/O. Unlike a mutex it can be waited for with a
// context. The zero turn is free.
type turn struct {
	once  sync.Once
	token chan struct{} // has an element while somebody has the turn
}

func (t *turn) claim(ctx context.Context) error {
	t.once.Do(func() { t.token = make(chan struct{}, 1) })
	select {
	case t.token <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *turn) release() { <-t.token }

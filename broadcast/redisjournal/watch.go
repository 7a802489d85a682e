package redisjournal

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// findInterval is how often a tail lets a client that uses Sentinel look for the master.
const findInterval = 3 * lookInterval

var errOtherEngine = errors.New("redisjournal: Client has gone over to another Redis, and a tail must follow it")

// startWatching starts to watch whether Client still reaches the Redis that this tail reads
// from. If not, the tail must not stay there: a master that was replaced may go on without
// knowing it. It returns a function that ends the watching.
func (t *tail) startWatching(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	j := t.journal
	j.mu.Lock()
	if j.tails == nil {
		j.tails = make(map[*tail]struct{})
	}
	j.tails[t] = struct{}{}
	j.mu.Unlock()
	var watching sync.WaitGroup
	watching.Go(func() { t.watch(ctx) })
	return func() {
		cancel()
		j.mu.Lock()
		delete(j.tails, t)
		j.mu.Unlock()
		watching.Wait()
	}
}

// nudge lets the tail find out at once whether Client reaches another Redis. It does not wait.
func (t *tail) nudge() {
	select {
	case t.nudged <- struct{}{}:
	default:
	}
}

// watch closes the tail's connection when Client reaches another Redis. It returns when that
// has happened, or ctx has ended.
func (t *tail) watch(ctx context.Context) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for found := time.Now(); ; {
		select {
		case <-t.nudged:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if time.Since(found) >= findInterval {
			t.journal.findMaster(ctx)
			found = time.Now()
		}
		s, err := t.journal.readStream(ctx, t.journal.Client, broadcast.ID{}, 0)
		if err == nil && s.runID != t.runID {
			t.moved.Store(true)
			t.client.Close()
			return
		}
	}
}

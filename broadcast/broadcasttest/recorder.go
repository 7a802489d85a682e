package broadcasttest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Recorder is a [broadcast.Broadcaster] that notes what is published, for tests of
// those who publish. What they publish also reaches those who subscribe. The zero
// Recorder works. It must not be copied after its first use.
type Recorder struct {
	// Broadcaster is where messages go on to. If nil, to a Hub of the Recorder's
	// own. It is set before the first use.
	Broadcaster broadcast.Broadcaster

	hub broadcast.Hub

	mu       sync.Mutex // held for moments only: who waits does so on cond
	cond     sync.Cond
	busy     bool // a Publish is under way
	messages []broadcast.Message
	failure  error
}

func (r *Recorder) next() broadcast.Broadcaster {
	if r.Broadcaster == nil {
		return &r.hub
	}
	return r.Broadcaster
}

// Publish publishes m and notes it, with its ID, unless that fails.
func (r *Recorder) Publish(ctx context.Context, m broadcast.Message) (broadcast.ID, error) {
	// One after the other, so that the notes are in the order of the IDs.
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cond.L = &r.mu
	for r.busy {
		r.cond.Wait()
	}
	if r.failure != nil {
		return broadcast.ID{}, fmt.Errorf("%w: %w", broadcast.ErrNotPublished, r.failure)
	}
	id, err := r.pass(ctx, m)
	if err == nil {
		m.ID = id
		r.messages = append(r.messages, m)
	}
	return id, err
}

// pass publishes while the lock is not held, as that may take its time.
func (r *Recorder) pass(ctx context.Context, m broadcast.Message) (broadcast.ID, error) {
	r.busy = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.busy = false
		r.cond.Broadcast()
	}()
	return r.next().Publish(ctx, m)
}

// Subscribe subscribes to what goes through the Recorder.
func (r *Recorder) Subscribe(ctx context.Context, opts broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	return r.next().Subscribe(ctx, opts)
}

// Messages returns what was published so far, in order.
func (r *Recorder) Messages() []broadcast.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// Fail lets Publish return an error that wraps err and [broadcast.ErrNotPublished],
// until Fail(nil).
func (r *Recorder) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = err
}

package broadcasttest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Recorder is a [broadcast.Broadcaster] that records what is published, for tests of code
// that publishes. Subscribers get the messages too. The zero Recorder is ready to use. A
// Recorder must not be copied after its first use; its methods may be called by several
// goroutines.
type Recorder struct {
	// Broadcaster gets the messages and serves the subscribers. Set it before the first
	// use. If nil, the Recorder has a Hub of its own.
	Broadcaster broadcast.Broadcaster

	hub broadcast.Hub // used if Broadcaster is nil

	mu       sync.Mutex // guards the fields below; not held while a message is published
	cond     sync.Cond  // signalled when busy becomes false
	busy     bool       // a Publish is under way
	messages []broadcast.Message
	failure  error
}

func (r *Recorder) broadcaster() broadcast.Broadcaster {
	if r.Broadcaster == nil {
		return &r.hub
	}
	return r.Broadcaster
}

// Publish publishes m, and records it with its ID if that succeeds.
func (r *Recorder) Publish(ctx context.Context, m broadcast.Message) (broadcast.ID, error) {
	// One message at a time, so that messages is in the order of the IDs.
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cond.L = &r.mu
	for r.busy {
		r.cond.Wait()
	}
	if r.failure != nil {
		return broadcast.ID{}, fmt.Errorf("%w: %w", broadcast.ErrNotPublished, r.failure)
	}
	id, err := r.forward(ctx, m)
	if err == nil {
		m.ID = id
		r.messages = append(r.messages, m)
	}
	return id, err
}

// forward publishes m. The caller has locked mu, which forward unlocks meanwhile.
func (r *Recorder) forward(ctx context.Context, m broadcast.Message) (broadcast.ID, error) {
	r.busy = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.busy = false
		r.cond.Broadcast()
	}()
	return r.broadcaster().Publish(ctx, m)
}

// Subscribe subscribes at the Broadcaster that gets the messages.
func (r *Recorder) Subscribe(ctx context.Context, opts broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	return r.broadcaster().Subscribe(ctx, opts)
}

// Messages returns what has been published so far, in the order of the IDs.
func (r *Recorder) Messages() []broadcast.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// Fail makes Publish return an error that wraps err and [broadcast.ErrNotPublished], until
// Fail(nil) is called.
func (r *Recorder) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = err
}

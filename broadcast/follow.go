package broadcast

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

// follower is what a Hub knows of its Journal. It belongs to Hub.mu.
type follower struct {
	entered   int                        // how many epochs this Hub has entered, the first one included
	newest    uint64                     // the newest sequence of this epoch that exists, as far as this Hub was told
	waiting   map[*subscription]struct{} // those that only the engine can place
	asked     chan struct{}              // has a token while somebody waits; nil while Run does not run
	running   bool                       // Run does, until it has returned
	ctx       context.Context            // Run's
	cancel    context.CancelFunc         // ends Run; nil while it does not run
	following bool

	behind  map[*subscription]struct{} // those that wait for their history
	reads   int                        // goroutines that read it
	reading sync.WaitGroup
}

const (
	// warm is how many of the journal's messages a Hub reads before those that
	// come, for clients that resume.
	warm = 65_536

	minBackoff = 100 * time.Millisecond
	maxBackoff = 10 * time.Second
)

// ask lets a subscription wait until the engine has said where it stands. The
// caller holds Hub.mu.
func (f *follower) ask(s *subscription) {
	f.wait(s)
	f.call()
}

func (f *follower) wait(s *subscription) {
	if f.waiting == nil {
		f.waiting = make(map[*subscription]struct{})
	}
	f.waiting[s] = struct{}{}
}

// call gives those who wait to the judge.
func (f *follower) call() {
	if len(f.waiting) == 0 {
		return
	}
	select {
	case f.asked <- struct{}{}:
	default:
	}
}

// stop ends Run. The caller holds Hub.mu.
func (f *follower) stop() {
	if f.cancel != nil {
		f.cancel()
	}
}

// Run follows the Journal until ctx ends, whose error it returns, or the Hub is
// closed ([ErrClosed]). While the engine is away Run tries again, with backoff;
// streams stay open meanwhile. A Hub in memory needs no Run: it returns nil at
// once. A second Run beside the first is an error.
func (h *Hub) Run(ctx context.Context) error {
	if h.Journal == nil {
		return nil
	}
	if err := h.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := h.beginRun(ctx, cancel); err != nil {
		return err
	}
	judged := make(chan struct{})
	go func() {
		defer close(judged)
		h.judge(ctx)
	}()
	defer func() {
		cancel()
		h.mu.Lock()
		h.follower.cancel, h.follower.asked, h.follower.following = nil, nil, false
		h.mu.Unlock()
		<-judged
		h.follower.reading.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.follower.running = false
	}()

	for failures := 0; ; failures++ {
		began := time.Now()
		took, err := h.follow(ctx)
		if took || time.Since(began) > maxBackoff {
			failures = 0
		}
		h.mu.Lock()
		h.follower.following = false
		closed := h.closed
		h.mu.Unlock()
		switch {
		case closed:
			return ErrClosed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		h.logger().Warn("broadcast: following the journal failed, trying again", "error", err, "failures", failures+1)
		backoff(ctx, failures)
	}
}

func (h *Hub) beginRun(ctx context.Context, cancel context.CancelFunc) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return ErrClosed
	case h.follower.running:
		return errors.New("broadcast: Hub.Run is running already")
	}
	h.follower.running = true
	h.follower.ctx, h.follower.cancel = ctx, cancel
	h.follower.asked = make(chan struct{}, 1)
	h.follower.call()
	h.startReading()
	return nil
}

// backoff waits before the next attempt, longer each time and never exactly as
// long as others wait.
func backoff(ctx context.Context, failures int) {
	most := maxBackoff
	if failures < 7 {
		most = min(maxBackoff, minBackoff<<failures)
	}
	timer := time.NewTimer(minBackoff/2 + rand.N(most))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// follow takes entries from the journal until it ends. It reports whether there
// were any.
func (h *Hub) follow(ctx context.Context) (took bool, err error) {
	after, err := h.catchUp(ctx)
	if err != nil {
		return false, err
	}
	for m, err := range h.Journal.Tail(ctx, after) {
		if err != nil && !errors.Is(err, ErrGap) {
			return took, err
		}
		if m.ID.epoch <= unknownEpoch || m.ID.seq == 0 && err == nil {
			return took, fmt.Errorf("broadcast: the journal's tail yielded the ID %q, which no entry can have", m.ID)
		}
		took = true
		h.take(m, err != nil)
	}
	return took, errors.New("broadcast: the journal's tail ended")
}

// catchUp returns where to follow from: behind what this Hub has, at first a
// bounded way behind the newest.
func (h *Hub) catchUp(ctx context.Context) (ID, error) {
	h.mu.Lock()
	known := h.epoch != 0
	h.mu.Unlock()
	var oldest, newest ID
	if !known {
		var err error
		if oldest, newest, err = h.Journal.Bounds(ctx); err != nil {
			return ID{}, err
		}
		if newest.epoch <= unknownEpoch {
			return ID{}, fmt.Errorf("broadcast: the journal's bounds have epoch %d: 0 and 1 are reserved", newest.epoch)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !known {
		from := max(oldest.seq, 1) - 1
		if newest.seq > warm {
			from = max(from, newest.seq-warm)
		}
		h.epoch = newest.epoch
		h.follower.entered++
		h.follower.newest = newest.seq
		h.kept.lose(from)
		h.head.Store(from)
		h.follower.call()
	}
	h.follower.following = true
	return ID{h.epoch, h.head.Load()}, nil
}

// take adds an entry of the journal, or a loss, to what this Hub has.
func (h *Hub) take(m Message, loss bool) {
	now := time.Now()
	h.mu.Lock()
	if err := h.use(now); err != nil {
		h.mu.Unlock()
		return
	}
	head := h.head.Load()
	same := m.ID.epoch == h.epoch
	if same && m.ID.seq <= head {
		h.mu.Unlock()
		return // again, after the connection was made anew
	}
	var told []*subscription
	switch {
	case !same && loss:
		told = h.enter(m.ID)
	case !same:
		told = h.enter(ID{m.ID.epoch, m.ID.seq - 1})
	case loss:
		told = h.lose(m.ID.seq)
	case m.ID.seq != head+1:
		told = h.lose(m.ID.seq - 1)
	}
	h.follower.newest = max(h.follower.newest, m.ID.seq)
	var arrived *topic
	if !loss {
		if foreign := m.validate(); foreign == nil {
			arrived = h.insert(m, now)
		} else {
			h.head.Store(m.ID.seq)
			if m.Topic != "" {
				h.logger().Error("broadcast: dropped an entry of the journal that is no valid message", "id", m.ID, "error", foreign)
			}
		}
	}
	h.mu.Unlock()
	for _, s := range told {
		s.wake()
	}
	if arrived != nil {
		h.waker.wake(arrived)
	}
}

// lose notes that everything up to seq may be lost, and returns the
// subscriptions to wake because of it. The caller holds mu.
func (h *Hub) lose(seq uint64) []*subscription {
	h.kept.lose(seq)
	told := h.open()
	for _, s := range told {
		// One that came from a server further on has seen it there.
		if s.placed && s.after < seq {
			s.gap = true
			s.attention.Store(true)
		}
	}
	h.head.Store(seq)
	return told
}

// enter goes over to another epoch of the journal, of which everything up to id
// is not known here. The caller holds mu.
func (h *Hub) enter(id ID) []*subscription {
	h.logger().Warn("broadcast: the journal has a new epoch, streams are told of a gap", "epoch", id.epoch)
	h.kept.clear()
	h.kept.lose(id.seq)
	told := h.open()
	for _, s := range told {
		if s.placed {
			s.goOn(0, true)
		}
		if s.end.Load() != forever {
			s.end.Store(id.seq) // what it was owed was in the old one
		}
	}
	h.follower.entered++
	h.epoch, h.follower.newest = id.epoch, id.seq
	h.head.Store(id.seq)
	h.follower.call()
	return told
}

// judge asks the engine about the positions that this Hub cannot place, with one
// call for all that wait, until ctx ends.
func (h *Hub) judge(ctx context.Context) {
	h.mu.Lock()
	asked := h.follower.asked
	h.mu.Unlock()
	failures := 0
	for {
		select {
		case <-asked:
		case <-ctx.Done():
			return
		}
		h.mu.Lock()
		waiting, entered := h.follower.waiting, h.follower.entered
		h.follower.waiting = nil
		h.mu.Unlock()

		newest, err := h.bounds(ctx)
		if err == nil {
			failures = 0
			h.settle(waiting, newest, entered)
			continue
		}
		// While the engine does not answer they stay as they are: no message, no
		// position, no gap.
		backoff(ctx, failures)
		failures++
		h.mu.Lock()
		for s := range waiting {
			if !s.closed.Load() { // Close did not find it while it was here
				h.follower.ask(s)
			}
		}
		h.mu.Unlock()
	}
}

// bounds asks the Journal for its newest. A panic there must not end the process:
// nobody else recovers in a goroutine of ours.
func (h *Hub) bounds(ctx context.Context) (newest ID, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("broadcast: panic in Journal.Bounds: %v", p)
			h.logger().Error("broadcast: panic in Journal.Bounds", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	_, newest, err = h.Journal.Bounds(ctx)
	return newest, err
}

// settle places those who waited by what the engine says is its newest; it was
// asked when the Hub had entered so many epochs.
func (h *Hub) settle(waiting map[*subscription]struct{}, newest ID, entered int) {
	var placed []*subscription
	h.mu.Lock()
	if newest.epoch == h.epoch {
		h.follower.newest = max(h.follower.newest, newest.seq)
	}
	for s := range waiting {
		switch {
		case s.closed.Load():
			continue
		case entered != h.follower.entered:
			h.follower.ask(s) // the answer may be about the epoch before
			continue
		case h.epoch == 0, s.from.epoch == newest.epoch && s.from.seq <= newest.seq && h.epoch != newest.epoch:
			// It stays until the tail has got there, which calls again.
			h.follower.wait(s)
			continue
		case s.from.IsZero():
			s.goOn(h.now(), true) // nobody knows what has been published since it subscribed
		case h.placeable(s):
			h.locate(s)
		case s.from.epoch == newest.epoch:
			s.goOn(h.now(), true)
		default:
			s.goOn(0, true)
		}
		placed = append(placed, s)
	}
	h.mu.Unlock()
	for _, s := range placed {
		s.wake()
	}
}

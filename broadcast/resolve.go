package broadcast

import (
	"context"
	"fmt"
	"time"
)

// resolver asks the engine about the positions that this Hub cannot place by itself:
// those ahead of its tail, and those of another epoch. One call of Journal.Bounds answers
// for all that wait. It is guarded by Hub.mu.
type resolver struct {
	// waiting are the subscriptions in stageWaiting, but for those that the engine is
	// being asked about, which are asked. Close removes a subscription from both.
	waiting, asked map[*subscription]struct{}

	// ahead are those of them whose position the engine says is ahead of it, and when it first
	// did.
	ahead map[*subscription]time.Time

	// catchUp is the sequence at which the tail is to nudge, since some of them wait for what
	// comes up to there; 0 if none does.
	catchUp uint64

	// nudged gets a token when waiting is to be resolved; nil if Run does not run.
	nudged chan struct{}
}

// add lets a subscription wait for the next answer of the engine, or of the tail.
func (r *resolver) add(s *subscription) {
	if r.waiting == nil {
		r.waiting = make(map[*subscription]struct{})
	}
	r.waiting[s] = struct{}{}
}

// remove forgets a subscription. The caller holds Hub.mu.
func (r *resolver) remove(s *subscription) {
	delete(r.waiting, s)
	delete(r.asked, s)
	delete(r.ahead, s)
}

// nudge lets the engine be asked about those that wait. It does not wait.
func (r *resolver) nudge() {
	if len(r.waiting) == 0 {
		return
	}
	select {
	case r.nudged <- struct{}{}:
	default:
	}
}

// caughtUp nudges if the tail has come as far as those that wait need.
func (r *resolver) caughtUp(head uint64) {
	if r.catchUp > 0 && head >= r.catchUp {
		r.catchUp = 0
		r.nudge()
	}
}

// look lets the engine be asked soon. It does not wait.
func (r *resolver) look() {
	select {
	case r.nudged <- struct{}{}:
	default:
	}
}

// While the engine is away the resolver's pauses are between one and three seconds in the end:
// when it is back, the resolver's answer lets all others try again.
const (
	leastLookPause = time.Second
	mostLookPause  = 2 * time.Second // on top of that
)

// resolve asks the engine every lookEvery, and whenever it is nudged, until ctx ends.
func (h *Hub) resolve(ctx context.Context) {
	h.mu.Lock()
	nudged := h.resolver.nudged
	h.mu.Unlock()
	retry := newPauses()
	retry.backoff.Most, retry.mostLeast = mostLookPause, leastLookPause
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for answered := true; ctx.Err() == nil; {
		if answered {
			select {
			case <-nudged:
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		answered = h.ask(ctx)
		h.checkTail()
		if answered {
			retry.reset()
			timer.Reset(lookEvery)
			continue
		}
		h.pause(ctx, &retry)
	}
}

// ask asks the engine for its newest ID, and places those that wait for it. It reports
// whether the engine has answered.
func (h *Hub) ask(ctx context.Context) bool {
	h.mu.Lock()
	waiting, entered := h.resolver.waiting, h.follower.entered
	h.resolver.waiting, h.resolver.asked = nil, waiting
	h.mu.Unlock()
	_, newest, err := h.bounds(ctx)
	if err == nil {
		h.placeAll(waiting, newest, entered)
		return true
	}
	// While the engine does not answer they stay as they are: no message, no position, no gap.
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range waiting {
		if s.stage == stageWaiting {
			h.resolver.add(s)
		}
	}
	h.resolver.asked = nil
	return false
}

// bounds asks the engine for its bounds. The caller holds no lock.
func (h *Hub) bounds(ctx context.Context) (oldest, newest ID, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err = h.guard("Journal.Bounds", func() (err error) {
		oldest, newest, err = h.Journal.Bounds(ctx)
		return err
	})
	if err == nil && newest.epoch <= unknownEpoch {
		err = fmt.Errorf("broadcast: the journal's bounds have epoch %d: 0 and 1 are reserved", newest.epoch)
	}
	return oldest, newest, err
}

// placeAll places the subscriptions that waited, by what the engine says is its newest
// ID. When it was asked the Hub had entered so many epochs.
func (h *Hub) placeAll(waiting map[*subscription]struct{}, newest ID, entered int) {
	var located []*subscription
	h.mu.Lock()
	now := time.Now()
	h.hear(now)
	if entered == h.follower.entered { // else it may be about the epoch before
		h.hearNewest(newest, now)
	}
	h.resolver.asked = nil
	for s := range waiting {
		if s.stage == stageWaiting && h.resolved(s, newest, entered) {
			delete(h.resolver.ahead, s)
			located = append(located, s)
		}
	}
	h.mu.Unlock()
	for _, s := range located {
		s.wake()
	}
}

// resolved locates a subscription by an answer of the engine, or lets it wait on, and
// reports whether it was located. The caller holds mu.
func (h *Hub) resolved(s *subscription, newest ID, entered int) bool {
	switch {
	case entered != h.follower.entered:
		// The answer may be about the epoch before: ask again.
		h.resolver.add(s)
		h.resolver.nudge()
		return false
	case h.epoch != newest.epoch:
		// The tail has still to enter the epoch of the journal, and nudges then. Before
		// that nothing can be said about any position.
		h.resolver.add(s)
		return false
	case s.from.IsZero():
		return h.begin(s)
	case h.knows(s.from):
		h.locate(s)
	case s.from.epoch == newest.epoch && h.mayBeStale(s):
		h.resolver.add(s)
		return false
	default:
		h.place(s, h.afterLoss(s.from, newest.epoch))
	}
	return true
}

// aheadFor is how long the engine has to answer that a position is ahead of its newest ID
// before that is believed. One that has lost its leader, or its tail without having begun a new
// epoch yet, answers with what it has.
const aheadFor = 3 * time.Second

// mayBeStale reports whether the engine is to be asked again about a position ahead of its
// newest ID. The caller holds mu.
func (h *Hub) mayBeStale(s *subscription) bool {
	r := &h.resolver
	since, ok := r.ahead[s]
	if !ok {
		if r.ahead == nil {
			r.ahead = make(map[*subscription]time.Time)
		}
		since = time.Now()
		r.ahead[s] = since
	}
	return time.Since(since) < aheadFor
}

// begin places a subscription without a position that came before this Hub knew its journal,
// or lets it wait on, and reports whether it was placed. It goes on after what was the newest
// entry when the engine first answered: without a gap if the journal has nothing of its
// topics up to there, since then nothing can have been published since Subscribe. The caller
// holds mu.
func (h *Hub) begin(s *subscription) bool {
	if s.beginning { // with all that is kept by then
		h.place(s, placement{after: h.newest()})
		return true
	}
	if !s.placement.gap {
		s.placement = placement{after: h.newest(), gap: true}
	}
	after := s.placement.after
	lost := h.follower.entered > 1 || len(h.holes) > 0 // it came before the first epoch
	for i := range s.cursors {
		t := s.cursors[i].topic
		lost = lost || t.lost() > 0 || t.indexAfter(after) > t.first.Load() || t.table.Load().hasUpTo(after)
	}
	if !lost && h.head.Load() < after {
		h.resolver.add(s)
		h.resolver.catchUp = max(h.resolver.catchUp, after) // the tail nudges there
		return false
	}
	h.place(s, placement{after: after, gap: lost})
	return true
}

package broadcast

import (
	"context"
)

// resolver asks the engine about the positions that this Hub cannot place by itself:
// those ahead of its tail, and those of another epoch. One call of Journal.Bounds answers
// for all that wait. It is guarded by Hub.mu.
type resolver struct {
	// waiting are the subscriptions in stageWaiting, but for those that the engine is
	// being asked about, which are asked. Close removes a subscription from both.
	waiting, asked map[*subscription]struct{}

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

// resolve asks the engine whenever it is nudged, until ctx ends.
func (h *Hub) resolve(ctx context.Context) {
	h.mu.Lock()
	nudged := h.resolver.nudged
	h.mu.Unlock()
	retry := newPauses()
	for {
		select {
		case <-nudged:
		case <-ctx.Done():
			return
		}
		h.mu.Lock()
		waiting, entered := h.resolver.waiting, h.follower.entered
		h.resolver.waiting, h.resolver.asked = nil, waiting
		h.mu.Unlock()

		var newest ID
		err := h.guard("Journal.Bounds", func() (err error) {
			_, newest, err = h.Journal.Bounds(ctx)
			return err
		})
		if err == nil {
			retry.reset()
			h.placeAll(waiting, newest, entered)
			continue
		}
		// While the engine does not answer they stay as they are: no message, no
		// position, no gap.
		h.pause(ctx, &retry)
		h.mu.Lock()
		for s := range waiting {
			if s.stage == stageWaiting {
				h.resolver.add(s)
			}
		}
		h.resolver.nudge()
		h.mu.Unlock()
	}
}

// placeAll places the subscriptions that waited, by what the engine says is its newest
// ID. When it was asked the Hub had entered so many epochs.
func (h *Hub) placeAll(waiting map[*subscription]struct{}, newest ID, entered int) {
	var located []*subscription
	h.mu.Lock()
	h.follower.hearEngine()
	if newest.epoch == h.epoch {
		h.follower.newest = max(h.follower.newest, newest.seq)
	}
	for s := range waiting {
		if s.stage == stageWaiting && h.resolved(s, newest, entered) {
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
	default:
		h.place(s, h.afterLoss(s.from, newest.epoch))
	}
	return true
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
	lost := h.follower.entered > 1 // it came before the first epoch
	for i := range s.cursors {
		t := s.cursors[i].topic
		lost = lost || t.evicted > 0 || t.indexAfter(after) > t.first.Load()
	}
	if !lost && h.head.Load() < after {
		h.resolver.add(s)
		h.resolver.catchUp = max(h.resolver.catchUp, after) // the tail nudges there
		return false
	}
	h.place(s, placement{after: after, gap: lost})
	return true
}

package broadcast

import (
	"context"

	"github.com/fanfare-go/fanfare/internal/backoff"
)

// resolver asks the engine about the positions that this Hub cannot place by itself:
// those ahead of its tail, and those of another epoch. One call of Journal.Bounds answers
// for all that wait. It is guarded by Hub.mu.
type resolver struct {
	// waiting are the subscriptions in stageWaiting, but for those that the engine is
	// being asked about, which are asked. Close removes a subscription from both.
	waiting, asked map[*subscription]struct{}

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

// resolve asks the engine whenever it is nudged, until ctx ends.
func (h *Hub) resolve(ctx context.Context) {
	h.mu.Lock()
	nudged := h.resolver.nudged
	h.mu.Unlock()
	retry := pauses()
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
			retry.Reset()
			h.placeAll(waiting, newest, entered)
			continue
		}
		// While the engine does not answer they stay as they are: no message, no
		// position, no gap.
		backoff.Sleep(ctx, retry.Next(leastPause))
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
	inEpoch := s.from.epoch == newest.epoch
	switch {
	case entered != h.follower.entered:
		// The answer may be about the epoch before: ask again.
		h.resolver.add(s)
		h.resolver.nudge()
		return false
	case h.epoch == 0, inEpoch && s.from.seq <= newest.seq && h.epoch != newest.epoch:
		// The position is good, in an epoch that the tail has still to enter. It nudges
		// then.
		h.resolver.add(s)
		return false
	case s.from.IsZero():
		// What has been published since it subscribed is not known.
		h.place(s, placement{after: h.newest(), gap: true})
	case h.knows(s.from):
		h.locate(s)
	default:
		h.place(s, h.afterLoss(s.from, newest.epoch))
	}
	return true
}

package broadcast

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// A position that this Hub's rings no longer reach may still be kept by the journal:
// then what follows it is read from there, for those that subscribe. Clients that come
// at the same time share a read, from the oldest of their positions to where the rings
// take over; what a client is owed of it is its history.
const (
	maxReads   = 2  // at once
	maxHistory = 16 // times Keep: messages for one client; beyond that it is told of a gap
	maxRounds  = 3  // in which rings may move on while they are read up to
)

// reader is one subscription that is to be given its history.
type reader struct {
	sub     *subscription
	links   []link          // those that it is for
	topics  map[string]bool // by name
	after   uint64
	history []*Message
	lost    bool // something of it is gone, or it is too much
}

// isBehind reports whether the rings of a subscription that can be placed have let go of
// what follows its position. The caller holds mu.
func (h *Hub) isBehind(s *subscription) bool {
	return !s.from.IsZero() && s.evicted() > s.from.seq
}

// evicted is the highest sequence gone from any of a subscription's rings. The caller
// holds Hub.mu.
func (s *subscription) evicted() (seq uint64) {
	for i := range s.links {
		seq = max(seq, s.links[i].topic.evicted)
	}
	return seq
}

// readFor lets a subscription wait for its history. The caller holds mu.
func (h *Hub) readFor(s *subscription) {
	f := &h.follower
	if f.behind == nil {
		f.behind = make(map[*subscription]struct{})
	}
	f.behind[s] = struct{}{}
	h.startReading()
}

// startReading lets another goroutine read, if somebody waits for it and Run runs, to
// which it belongs. The caller holds mu.
func (h *Hub) startReading() {
	f := &h.follower
	if f.cancel == nil || len(f.behind) == 0 || f.reads == maxReads {
		return
	}
	f.reads++
	ctx := f.ctx
	f.reading.Go(func() { h.read(ctx) })
}

// read gives those who wait their history, until nobody does or ctx ends.
func (h *Hub) read(ctx context.Context) {
	for failures := 0; ; {
		h.mu.Lock()
		readers := h.takeReaders()
		if len(readers) == 0 || ctx.Err() != nil {
			for _, r := range readers {
				h.follower.behind[r.sub] = struct{}{} // for the next Run
			}
			h.follower.reads--
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		if err := h.readHistory(ctx, readers); err != nil {
			// While the engine does not answer they stay as they are: no message, no
			// position, no gap.
			h.logger().Warn("broadcast: reading what clients have missed failed, trying again", "error", err, "clients", len(readers))
			h.mu.Lock()
			for _, r := range readers {
				if !r.sub.placed && !r.sub.closed.Load() {
					h.follower.behind[r.sub] = struct{}{}
				}
			}
			h.mu.Unlock()
			backoff(ctx, failures)
			failures++
			continue
		}
		failures = 0
	}
}

// takeReaders takes all who wait. The caller holds mu.
func (h *Hub) takeReaders() (readers []*reader) {
	for s := range h.follower.behind {
		delete(h.follower.behind, s)
		switch {
		case s.closed.Load() || s.placed:
		case !h.placeable(s) || !h.isBehind(s): // since it began to wait
			h.locate(s)
		default:
			r := &reader{sub: s, links: s.links, topics: make(map[string]bool, len(s.links)), after: s.from.seq}
			for i := range s.links {
				r.topics[s.links[i].topic.name] = true
			}
			readers = append(readers, r)
		}
	}
	return readers
}

// readHistory reads for all readers up to where their rings take over, and places them.
func (h *Hub) readHistory(ctx context.Context, readers []*reader) error {
	h.mu.Lock()
	epoch, from, to := h.epoch, readers[0].after, uint64(0)
	for _, r := range readers {
		from, to = min(from, r.after), max(to, r.sub.evicted())
	}
	h.mu.Unlock()
	for round := 1; len(readers) > 0; round++ {
		if err := h.readUpTo(ctx, ID{epoch, from}, to, readers); err != nil {
			return err
		}
		from = to
		h.mu.Lock()
		var rest, placed []*reader
		for _, r := range readers {
			to = max(to, r.sub.evicted())
		}
		for _, r := range readers {
			switch {
			case r.sub.closed.Load() || &r.links[0] != &r.sub.links[0]: // SetTopics has located it
			case h.epoch != epoch:
				h.locate(r.sub)
				placed = append(placed, r)
			case !r.lost && r.sub.evicted() > from && round < maxRounds:
				rest = append(rest, r)
			default:
				h.install(r, from)
				placed = append(placed, r)
			}
		}
		h.mu.Unlock()
		for _, r := range placed {
			r.sub.wake()
		}
		readers = rest
	}
	return nil
}

// install places a subscription behind what was read for it. Where that is not all, it
// is told of a gap as if nothing had been read. The caller holds mu.
func (h *Hub) install(r *reader, upTo uint64) {
	s := r.sub
	if r.lost || s.evicted() > upTo {
		s.goOn(s.from.seq, false)
		return
	}
	s.history = &r.history
	s.goOn(max(upTo, s.from.seq), false)
}

var (
	errTailEnded  = errors.New("broadcast: the journal's tail ended")
	errOtherEpoch = errors.New("broadcast: the journal has another epoch")
)

// readUpTo reads the journal behind a position up to a sequence, and gives each reader
// what it is owed of that.
func (h *Hub) readUpTo(ctx context.Context, after ID, to uint64, readers []*reader) (err error) {
	if after.seq >= to {
		return nil
	}
	defer func() {
		if p := recover(); p != nil { // nobody else does in a goroutine of ours
			err = fmt.Errorf("broadcast: panic in Journal.Tail: %v\n%s", p, debug.Stack())
		}
	}()
	keep := h.Keep
	if keep == 0 {
		keep = defaultKeep
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for m, err := range h.Journal.Tail(ctx, after) {
		loss := errors.Is(err, ErrGap)
		if err != nil && !loss {
			return err
		}
		if m.ID.epoch != after.epoch {
			return errOtherEpoch // until the follower has seen it as well
		}
		loss = loss || m.ID.seq != after.seq+1
		for _, r := range readers {
			switch {
			case m.ID.seq <= r.after || r.lost:
			case loss:
				r.lost = true
			case r.topics[m.Topic] && m.ID.seq <= to && m.validate() == nil:
				if r.lost = len(r.history) == maxHistory*keep; !r.lost {
					r.history = append(r.history, &m)
				}
			}
		}
		if after = m.ID; after.seq >= to {
			return nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errTailEnded
}

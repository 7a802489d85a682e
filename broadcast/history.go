package broadcast

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/backoff"
)

// historian reads from the journal what rings have evicted, for subscriptions that resume
// from before that. Those that come at the same time share a read, which begins at the
// oldest of their positions and ends where the rings take over. Those that are far back share
// no read with those that are near, and are read for by one goroutine, which rests as long as it
// has read: a client that comes with an old ID does not hold up the others.
//
// Its goroutines belong to Run, and exist only while a subscription waits. Its fields are
// guarded by Hub.mu.
type historian struct {
	// waiting are the subscriptions in stageReading that no goroutine reads for.
	waiting map[*subscription]struct{}

	reads      [2]bool   // whether a goroutine reads, by distance
	farAt      time.Time // when the next read for those that are far back may begin
	goroutines sync.WaitGroup
}

// distance is how far a subscription is back.
type distance int

const (
	near distance = iota // at most nearHistory entries
	far                  // at most farHistory
	lost                 // more: it gets a gap
)

const (
	nearHistory = 16_384
	farHistory  = 4 * warm
	leastRest   = time.Second // between two reads for those that are far back

	maxHistory = 16 // times Keep: events for one subscription, else it gets a gap
	maxKeys    = 2  // times Values: Keys of each of its topics, likewise
	maxRounds  = 3  // of reading on, if rings have evicted more meanwhile

	// overlap is how many entries are read beyond what the rings have evicted: while a client is
	// sent its history, they evict more.
	overlap = 1024

	// maxReads is how often a subscription may read on after it has resumed, until it has caught
	// up. One that is slower than the publishers never does.
	maxReads = 8

	// readPatience is how long the engine may yield nothing during a read before that is
	// begun anew.
	readPatience = 10 * time.Second
)

// distance returns how far the subscription is back. The caller holds Hub.mu.
func (s *subscription) distance() distance {
	switch needed := s.needed(); {
	case needed <= s.from.seq+nearHistory:
		return near
	case needed <= s.from.seq+farHistory:
		return far
	}
	return lost
}

// remove forgets a subscription. The caller holds Hub.mu.
func (n *historian) remove(s *subscription) {
	delete(n.waiting, s)
	s.reader.forget()
}

// readFor lets a subscription wait until its history has been read. The caller holds mu.
func (h *Hub) readFor(s *subscription) {
	s.reader.forget() // it reads for the topics before
	h.readAgain(s)
	h.startReading()
}

// readAgain lets a subscription wait whose history could not be read. The caller holds mu.
func (h *Hub) readAgain(s *subscription) {
	if s.stage != stageReading {
		return
	}
	if h.historian.waiting == nil {
		h.historian.waiting = make(map[*subscription]struct{})
	}
	h.historian.waiting[s] = struct{}{}
}

// startReading starts goroutines that read, if there is something to read and Run runs. One
// that finds nothing at its distance ends at once. The caller holds mu.
func (h *Hub) startReading() {
	if h.follower.cancel == nil || len(h.historian.waiting) == 0 {
		return
	}
	ctx := h.follower.ctx
	for d, reads := range h.historian.reads {
		if !reads {
			h.historian.reads[d] = true
			h.historian.goroutines.Go(func() { h.readWaiting(ctx, distance(d)) })
		}
	}
}

// readWaiting reads the history of those that wait at a distance, until there are none or ctx
// ends.
func (h *Hub) readWaiting(ctx context.Context, d distance) {
	retry := newPauses()
	for {
		if d == far {
			h.rest(ctx)
		}
		readCtx, cancel := context.WithCancel(ctx)
		readers := h.claimReaders(ctx, d, cancel)
		if len(readers) == 0 {
			cancel()
			return
		}
		began := time.Now()
		err := h.readHistory(readCtx, readers)
		cancel()
		if d == far {
			h.mu.Lock()
			h.historian.farAt = time.Now().Add(max(leastRest, time.Since(began)))
			h.mu.Unlock()
		}
		if err == nil {
			retry.reset()
			continue
		}
		if !h.giveBack(readers) {
			continue // nobody waits for it any more
		}
		// While the engine does not answer they stay as they are: no message, no
		// position, no gap.
		h.log(slog.LevelWarn, "broadcast: reading what clients have missed failed, trying again", "error", err, "clients", len(readers))
		h.pause(ctx, &retry)
	}
}

// rest waits until the next read for those that are far back may begin.
func (h *Hub) rest(ctx context.Context) {
	h.mu.Lock()
	d := time.Until(h.historian.farAt)
	if len(h.historian.waiting) == 0 {
		d = 0
	}
	h.mu.Unlock()
	if d > 0 {
		_ = backoff.Sleep(ctx, d)
	}
}

// giveBack lets the subscriptions wait whose read has failed, and reports whether there are any.
func (h *Hub) giveBack(readers []*reader) (any bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range readers {
		if s := r.sub; s != nil {
			any = true
			r.forget()
			h.readAgain(s)
		}
	}
	return any
}

// claimReaders returns readers for all that wait at a distance, who share a read that cancel
// ends. If there are none, or ctx has ended, the calling goroutine must end.
func (h *Hub) claimReaders(ctx context.Context, d distance, cancel context.CancelFunc) (readers []*reader) {
	var placed []*subscription
	h.mu.Lock()
	defer func() {
		h.mu.Unlock()
		for _, s := range placed {
			s.wake()
		}
	}()
	if ctx.Err() != nil {
		h.historian.reads[d] = false // those that wait do so for the next Run
		return nil
	}
	waiting := h.historian.waiting
	h.historian.waiting = nil // a new map, since one keeps the size of its peak
	shared := &read{cancel: cancel}
	for s := range waiting {
		switch {
		case s.stage != stageReading:
		case !h.knows(s.from): // any more: the journal has a new epoch
			h.locate(s)
		case s.distance() == lost: // meanwhile
			h.place(s, placement{after: s.from.seq, missing: true})
			placed = append(placed, s)
		case s.distance() != d:
			h.readAgain(s)
		default:
			readers = append(readers, h.newReader(s, shared))
		}
	}
	h.startReading() // for those at another distance, which may have been at this one before
	if len(readers) == 0 {
		h.historian.reads[d] = false
	}
	return readers
}

// readTo returns up to where is read for a reader, which notes what of that it needs. The caller
// holds mu.
func (h *Hub) readTo(r *reader) uint64 {
	if r.sub == nil {
		return 0
	}
	r.needed = r.sub.needed()
	return max(r.needed, min(r.needed+overlap, h.head.Load()))
}

// newReader makes the reader of a subscription. The caller holds mu.
func (h *Hub) newReader(s *subscription, shared *read) *reader {
	r := &reader{sub: s, read: shared, topics: make(map[string]bool, len(s.cursors)), after: s.from, history: h.past.newHistory(), full: forever}
	r.end.Store(s.end.Load())
	s.reader = r
	shared.left++
	for i := range s.cursors {
		if !s.begins(i) {
			r.topics[s.cursors[i].topic.name] = true
		}
	}
	return r
}

// readHistory reads for all readers up to where their rings take over, and places them.
func (h *Hub) readHistory(ctx context.Context, readers []*reader) error {
	h.mu.Lock()
	first, to := readers[0].after, uint64(0)
	epoch, from := first.epoch, first.seq // the Hub may have entered another since they were claimed
	for _, r := range readers {
		from = min(from, r.after.seq)
		to = max(to, h.readTo(r))
	}
	if h.epoch != epoch {
		to = from // nothing is read: they are located anew
	}
	h.mu.Unlock()
	for round := 1; len(readers) > 0; round++ {
		err := h.guard("Journal.Tail", func() (err error) {
			from, err = h.readUpTo(ctx, ID{epoch, from}, to, readers)
			return err
		})
		if err != nil {
			return err
		}
		readers, to = h.placeReaders(readers, ID{epoch, from}, round == maxRounds)
	}
	return nil
}

// placeReaders places the subscriptions whose history has been read up to an ID. It
// returns those whose rings have evicted more meanwhile, and the sequence to read on to;
// none in the last round.
func (h *Hub) placeReaders(readers []*reader, upTo ID, last bool) (rest []*reader, to uint64) {
	var located []*subscription
	h.mu.Lock()
	to = upTo.seq
	h.hear(time.Now())
	for _, r := range readers {
		s := r.sub
		switch {
		case s == nil:
			continue // Close or SetTopics has decided otherwise
		case s.stage != stageReading:
			r.forget()
			continue
		case h.epoch != upTo.epoch:
			r.forget()
			h.locate(s)
		case !r.lost && s.needed() > min(upTo.seq, r.full) && !last:
			rest, to = append(rest, r), max(to, h.readTo(r))
			continue
		default:
			h.placeReader(r, upTo.seq)
		}
		located = append(located, s)
	}
	h.mu.Unlock()
	for _, s := range located {
		s.wake()
	}
	return rest, to
}

// placeReader places a subscription after its history. If some of that is missing it is
// placed as if nothing had been read, so that it gets a gap. The caller holds mu.
func (h *Hub) placeReader(r *reader, upTo uint64) {
	s := r.sub
	if upTo = min(upTo, r.full); r.lost || s.needed() > upTo {
		r.forget()
		h.place(s, placement{after: s.from.seq, missing: true})
		return
	}
	r.leave()
	r.history.complete()
	h.place(s, placement{after: max(upTo, s.from.seq), history: r.history})
}

var (
	errTailEnded  = errors.New("broadcast: the journal's tail ended")
	errOtherEpoch = errors.New("broadcast: the journal has another epoch")
	errStuckRead  = errors.New("broadcast: the journal's tail has yielded nothing for so long")
)

// readUpTo reads the journal after a position up to a sequence, and adds what it yields to
// the history of the readers. It returns how far it has come, which is less if there is nobody
// left whom more could serve.
func (h *Hub) readUpTo(ctx context.Context, after ID, to uint64, readers []*reader) (uint64, error) {
	if after.seq >= to {
		return to, nil
	}
	invalid := dropped{}
	defer func() { h.logDropped(&invalid) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stuck := time.AfterFunc(readPatience, func() { cancel(errStuckRead) })
	defer stuck.Stop()
	begin := after
	if after.seq == 0 {
		begin = ID{} // of all that is kept nothing is left out
	}
	for m, err := range h.Journal.Tail(ctx, begin) {
		stuck.Reset(readPatience)
		loss := err != nil && isJump(err)
		if err != nil && !loss {
			return 0, cmp.Or(context.Cause(ctx), err)
		}
		if ctx.Err() != nil {
			break
		}
		if m.ID.epoch != after.epoch {
			return 0, errOtherEpoch // until the follower has entered it as well
		}
		hole := hole{after.seq, m.ID.seq - 1} // mostly empty
		if loss {
			hole.upTo = m.ID.seq
		}
		valid := !loss && m.ID.seq <= to && invalid.passes(&m, h.validate(&m))
		useful := h.addHistory(m, hole, valid, readers)
		if after = m.ID; after.seq >= to || !useful {
			return after.seq, nil
		}
	}
	return 0, cmp.Or(context.Cause(ctx), errTailEnded)
}

// historyLimit returns how much a history may have when a message of a topic is added. The classes
// are set by then, and do not change.
func (h *Hub) historyLimit(topic string) historyLimit {
	return historyLimit{maxHistory * h.keep(), maxKeys * h.kept.all[h.kept.of(topic)].values, h.keepBytes()}
}

// addHistory gives an entry of the journal to the readers that it is for, or tells them that
// something before it is lost. It reports whether more can serve any of them.
func (h *Hub) addHistory(m Message, missing hole, valid bool, readers []*reader) (useful bool) {
	var held *pastMessage
	for _, r := range readers {
		end := r.end.Load()
		switch {
		case r.lost:
		case max(missing.after, r.after.seq) < min(missing.upTo, end, r.full):
			r.endAt(missing.after)
		case valid && m.ID.seq > r.after.seq && m.ID.seq <= min(end, r.full) && r.topics[m.Topic]:
			if held == nil {
				held = h.past.hold(m)
			}
			if !r.history.add(held, h.historyLimit(m.Topic)) {
				r.endAt(m.ID.seq - 1)
			}
		}
		useful = useful || !r.lost && m.ID.seq < min(end, r.full)
	}
	if held != nil {
		h.past.release(held)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.trim(time.Now())
	}
	return useful
}

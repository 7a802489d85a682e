package broadcast

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// historian reads from the journal what rings have evicted, for subscriptions that resume
// from before that. Those that come at the same time share a read, which begins at the
// oldest of their positions and ends where the rings take over.
//
// Its goroutines belong to Run, and exist only while a subscription waits. Its fields are
// guarded by Hub.mu.
type historian struct {
	// waiting are the subscriptions in stageReading that no goroutine reads for.
	waiting map[*subscription]struct{}

	reads      int // goroutines that read
	goroutines sync.WaitGroup
}

const (
	maxReads   = 2  // at once
	maxHistory = 16 // times Keep: messages for one subscription, else it gets a gap
	maxRounds  = 3  // of reading on, if rings have evicted more meanwhile
)

// reader is a subscription that the journal is read for. The goroutine that reads owns it, but
// for sub.
type reader struct {
	sub     *subscription   // nil if it does not wait any more; guarded by Hub.mu
	topics  map[string]bool // the names of their topics
	after   uint64          // the position's sequence
	end     atomic.Uint64   // the subscription's; Finish sets it
	history *history        // what follows it
	lost    bool            // some of it is not in the journal any more, or it is too much
}

// forget lets a reader go on without its subscription, which does not wait for it any more.
// The caller holds Hub.mu.
func (r *reader) forget() {
	if r == nil || r.sub == nil {
		return
	}
	r.sub.reader, r.sub = nil, nil
	r.history.drop()
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

// startReading starts another goroutine that reads, if there is something to read and
// Run runs. The caller holds mu.
func (h *Hub) startReading() {
	if h.follower.cancel == nil || len(h.historian.waiting) == 0 || h.historian.reads == maxReads {
		return
	}
	h.historian.reads++
	ctx := h.follower.ctx
	h.historian.goroutines.Go(func() { h.readWaiting(ctx) })
}

// readWaiting reads the history of those that wait, until there are none or ctx ends.
func (h *Hub) readWaiting(ctx context.Context) {
	retry := newPauses()
	for {
		readers := h.claimReaders(ctx)
		if len(readers) == 0 {
			return
		}
		err := h.readHistory(ctx, readers)
		if err == nil {
			retry.reset()
			continue
		}
		// While the engine does not answer they stay as they are: no message, no
		// position, no gap.
		cmp.Or(h.Logger, slog.Default()).Warn("broadcast: reading what clients have missed failed, trying again", "error", err, "clients", len(readers))
		h.mu.Lock()
		for _, r := range readers {
			if s := r.sub; s != nil {
				r.forget()
				h.readAgain(s)
			}
		}
		h.mu.Unlock()
		h.pause(ctx, &retry)
	}
}

// claimReaders returns readers for all that wait. If there are none, or ctx has ended, the
// calling goroutine must end.
func (h *Hub) claimReaders(ctx context.Context) (readers []*reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		h.historian.reads-- // those that wait do so for the next Run
		return nil
	}
	waiting := h.historian.waiting
	h.historian.waiting = nil // a new map, since one keeps the size of its peak
	for s := range waiting {
		if s.stage != stageReading {
			continue
		}
		if !h.knows(s.from) { // any more: the journal has a new epoch
			h.locate(s)
			continue
		}
		r := &reader{sub: s, topics: make(map[string]bool, len(s.cursors)), after: s.from.seq, history: &history{past: &h.past}}
		r.end.Store(s.end.Load())
		s.reader = r
		for i := range s.cursors {
			r.topics[s.cursors[i].topic.name] = true
		}
		readers = append(readers, r)
	}
	if len(readers) == 0 {
		h.historian.reads--
	}
	return readers
}

// readHistory reads for all readers up to where their rings take over, and places them.
func (h *Hub) readHistory(ctx context.Context, readers []*reader) error {
	h.mu.Lock()
	epoch, from, to := h.epoch, readers[0].after, uint64(0)
	for _, r := range readers {
		from = min(from, r.after)
		if r.sub != nil {
			to = max(to, r.sub.needed())
		}
	}
	h.mu.Unlock()
	for round := 1; len(readers) > 0; round++ {
		err := h.guard("Journal.Tail", func() error {
			return h.readUpTo(ctx, ID{epoch, from}, to, readers)
		})
		if err != nil {
			return err
		}
		from = to
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
		if r.sub != nil {
			to = max(to, r.sub.needed())
		}
	}
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
		case !r.lost && s.needed() > upTo.seq && !last:
			rest = append(rest, r)
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
	if r.lost || s.needed() > upTo {
		r.forget()
		h.place(s, placement{after: s.from.seq})
		return
	}
	r.sub, s.reader = nil, nil
	h.place(s, placement{after: max(upTo, s.from.seq), history: r.history})
}

var (
	errTailEnded  = errors.New("broadcast: the journal's tail ended")
	errOtherEpoch = errors.New("broadcast: the journal has another epoch")
)

// readUpTo reads the journal after a position up to a sequence, and adds what it yields to
// the history of the readers.
func (h *Hub) readUpTo(ctx context.Context, after ID, to uint64, readers []*reader) error {
	if after.seq >= to {
		return nil
	}
	invalid := dropped{}
	defer func() { invalid.log(cmp.Or(h.Logger, slog.Default())) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for m, err := range h.Journal.Tail(ctx, after) {
		loss := errors.Is(err, ErrGap)
		if err != nil && !loss {
			return err
		}
		if m.ID.epoch != after.epoch {
			return errOtherEpoch // until the follower has entered it as well
		}
		loss = loss || m.ID.seq != after.seq+1
		valid := m.ID.seq <= to && invalid.passes(&m, h.validate(&m))
		h.addHistory(m, loss, valid, readers)
		if after = m.ID; after.seq >= to {
			return nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errTailEnded
}

// addHistory gives an entry of the journal to the readers that it is for, or tells them that
// something before it is lost.
func (h *Hub) addHistory(m Message, loss, valid bool, readers []*reader) {
	var held *pastMessage
	for _, r := range readers {
		switch {
		case m.ID.seq <= r.after || r.lost || m.ID.seq > r.end.Load():
		case loss:
			r.lost = true
		case valid && r.topics[m.Topic]:
			if held == nil {
				held = h.past.hold(m)
			}
			if r.lost = !r.history.add(held, h.keep(), h.keepBytes()); r.lost {
				r.history.drop()
			}
		}
	}
	if held == nil {
		return
	}
	h.past.release(held)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trim(time.Now())
}

// dropped are the entries that a read has met which are not valid messages: one line of the
// log for all, since clients that resume make the Hub read them again.
type dropped struct {
	count int
	first ID
	err   error // why the first is not valid
}

// passes counts an entry that is not valid, unless it has no topic: the journal's own entries
// have none.
func (d *dropped) passes(m *Message, err error) bool {
	if err != nil && m.Topic != "" {
		if d.count++; d.count == 1 {
			d.first, d.err = m.ID, err
		}
	}
	return err == nil
}

func (d *dropped) log(logger *slog.Logger) {
	if d.count > 0 {
		logger.Error("broadcast: dropped entries of the journal that are not valid messages, of what clients have missed",
			"entries", d.count, "first", d.first, "error", d.err)
	}
}

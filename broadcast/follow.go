package broadcast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// follower is what a Hub knows of its Journal. It is guarded by Hub.mu.
type follower struct {
	entered int    // how many epochs this Hub has entered, the first one included
	newest  uint64 // the newest sequence of this epoch that exists, as far as this Hub knows

	// published is the newest ID that this Hub's Publish was given in an epoch that the tail
	// has still to enter; zero if there is none.
	published ID
	left      []leftEpoch // the epochs that the tail has left last: late answers may be of them

	// answered is closed when the engine answers, for goroutines that pause; nil if none does.
	answered chan struct{}

	running bool               // from the beginning of Run until it returns
	watched bool               // the Hub was used without Run, and warns if nobody calls that soon
	ctx     context.Context    // Run's; it has ended or is not set if Run does not run
	cancel  context.CancelFunc // ends Run; nil if Run does not run, or is returning
}

// leftEpoch is an epoch that the tail has left. Its entries up to survived have the same
// sequences in the epoch where the tail is now.
type leftEpoch struct{ epoch, survived uint64 }

const (
	// warm is how many of the journal's newest messages a Hub reads when it starts, for
	// clients that resume.
	warm = 65_536

	// runDue is how long after the first use Run has to run: "go hub.Run(ctx)" may begin a
	// moment later.
	runDue = time.Second
)

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
	resolved := make(chan struct{})
	go func() {
		defer close(resolved)
		h.resolve(ctx)
	}()
	defer h.endRun(cancel, resolved)

	retry := newPauses()
	for failures := 1; ; failures++ {
		began := time.Now()
		applied, err := h.follow(ctx)
		if applied || time.Since(began) > mostPause {
			failures = 1
			retry.reset()
		}
		h.mu.Lock()
		h.watch.close()
		closed := h.closed
		h.mu.Unlock()
		switch {
		case closed:
			return ErrClosed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		h.log(slog.LevelWarn, "broadcast: following the journal failed, trying again", "error", err, "failures", failures)
		h.pause(ctx, &retry)
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
	if err := h.use(time.Now()); err != nil {
		h.follower.running = false
		return err
	}
	h.follower.ctx, h.follower.cancel = ctx, cancel
	h.watch.changed()
	h.resolver.nudged = make(chan struct{}, 1)
	h.resolver.nudge()
	h.startReading()
	return nil
}

// expectRun warns a moment later if nobody runs the Hub, which is then deaf. The caller holds
// mu.
func (h *Hub) expectRun() {
	if h.follower.watched || h.follower.running {
		return
	}
	h.follower.watched = true
	time.AfterFunc(runDue, func() {
		h.mu.Lock()
		deaf := !h.follower.running && !h.closed
		h.mu.Unlock()
		if deaf {
			h.log(slog.LevelWarn, "broadcast: the Hub has a Journal but nobody runs it, so no message arrives: "+
				`call "go hub.Run(ctx)", with a ctx that lives as long as the streams`)
		}
	})
}

// endRun waits for the goroutines of a Run, and lets another one begin.
func (h *Hub) endRun(cancel context.CancelFunc, resolved <-chan struct{}) {
	cancel()
	h.mu.Lock()
	h.follower.cancel = nil
	h.resolver.nudged = nil
	h.watch.changed()
	h.mu.Unlock()
	<-resolved
	h.historian.goroutines.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.follower.running, h.follower.watched = false, false
	h.watch.stuck, h.watch.deaf, h.watch.ready, h.watch.asked = time.Time{}, false, false, false
	if h.subs.count > 0 {
		h.expectRun()
	}
}

// stop ends Run. The caller holds Hub.mu.
func (f *follower) stop() {
	if f.cancel != nil {
		f.cancel()
	}
}

// follow applies entries of the journal until its tail ends. It reports whether there
// were any.
func (h *Hub) follow(ctx context.Context) (applied bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	after, err := h.catchUp(ctx, cancel)
	if err != nil {
		return false, err
	}
	err = h.guard("Journal.Tail", func() error {
		for m, err := range h.Journal.Tail(ctx, after) {
			if err != nil && !isJump(err) {
				return cmp.Or(context.Cause(ctx), err) // why it was ended, if it was
			}
			if m.ID.epoch <= unknownEpoch || m.ID.seq == 0 && err == nil {
				return fmt.Errorf("broadcast: the journal's tail yielded the ID %q, which no entry can have", m.ID)
			}
			applied = true
			change := epochChange{}
			if m.ID.epoch != after.epoch {
				change = h.epochChange(ctx, m.ID.epoch, err)
			}
			after = m.ID
			h.apply(m, err != nil, change)
		}
		return cmp.Or(context.Cause(ctx), errTailEnded)
	})
	return applied, err
}

// catchUp returns the position to follow the journal from: the Hub's head, or at first
// what warmUp says. reopen ends the tail that begins there.
func (h *Hub) catchUp(ctx context.Context, reopen context.CancelCauseFunc) (ID, error) {
	h.mu.Lock()
	known := h.epoch != 0
	h.mu.Unlock()
	var newest ID
	var from uint64
	if !known {
		var err error
		if newest, from, err = h.warmUp(ctx); err != nil {
			return ID{}, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watch.open(reopen)
	if !known {
		h.setEpoch(newest)
		h.watch.stuck = time.Time{} // there was no tail before
		h.head.Store(from)
		now := time.Now()
		h.hear(now)
		h.hearNewest(newest, now)
		h.watch.changed()
		h.resolver.nudge()
	} else {
		h.resolver.look() // the tail may have been closed because the engine went away
	}
	return ID{h.epoch, h.head.Load()}, nil
}

// epochChange is what is known of a new epoch that a tail has yielded.
type epochChange struct {
	survived ID     // the newest entry of the epoch before that is still there; zero if none is known
	newest   uint64 // the newest sequence; 0 if the engine has not said
}

// epochChange asks the engine how far the new epoch goes, before the tail has yielded it: what is
// now, for streams that begin or go on from now, is there. The caller holds no lock.
func (h *Hub) epochChange(ctx context.Context, epoch uint64, err error) (c epochChange) {
	if e, ok := errors.AsType[*EpochError](err); ok {
		c.survived = e.Survived
	}
	if _, newest, err := h.bounds(ctx); err == nil && newest.epoch == epoch {
		c.newest = newest.seq
	}
	return c
}

// apply adds an entry of the journal to what this Hub has, or notes that everything up to
// it may be lost. Subscriptions are woken, and the log is written, without the lock.
func (h *Hub) apply(m Message, loss bool, change epochChange) {
	now := time.Now()
	h.mu.Lock()
	if err := h.use(now); err != nil {
		h.mu.Unlock()
		return
	}
	head, entered := h.head.Load(), m.ID.epoch != h.epoch
	if !entered && m.ID.seq <= head {
		h.mu.Unlock()
		return // a repetition, after the connection was made anew
	}
	var affected []*subscription
	switch {
	case entered && loss:
		affected = h.enter(m.ID, change)
	case entered:
		affected = h.enter(ID{m.ID.epoch, m.ID.seq - 1}, change)
	case loss:
		affected = h.lose(m.ID.seq)
	case m.ID.seq != head+1:
		affected = h.lose(m.ID.seq - 1)
	}
	h.follower.newest = max(h.follower.newest, m.ID.seq)
	h.hear(now)
	hears := h.watch.moved()
	var arrived *topic
	var invalid error
	if !loss {
		if invalid = h.validate(&m); invalid == nil {
			arrived = h.insert(&m, now)
		} else {
			h.head.Store(m.ID.seq)
		}
	}
	h.lag.reach(m.ID.seq)
	h.checkReady(now)
	h.resolver.caughtUp(m.ID.seq)
	h.mu.Unlock()

	for _, s := range affected {
		s.wake()
	}
	if arrived != nil {
		h.waker.wake(h, arrived)
	}
	if hears {
		h.log(slog.LevelWarn, "broadcast: the Hub is no longer deaf: its journal's tail yields entries again")
	}
	if entered {
		h.log(slog.LevelWarn, "broadcast: the journal has a new epoch, streams get a gap", "epoch", m.ID.epoch)
	}
	if invalid != nil && m.Topic != "" {
		h.log(slog.LevelError, "broadcast: dropped an entry of the journal that is not a valid message", "id", m.ID, "error", invalid)
	}
}

// maxLeft is how many epochs are remembered that the tail has left.
const maxLeft = 16

// setEpoch sets the Hub's epoch, and what is known of its newest entry. The caller holds mu.
func (h *Hub) setEpoch(newest ID) {
	f := &h.follower
	f.entered++
	h.epoch, f.newest = newest.epoch, newest.seq
	switch {
	case f.published.epoch == h.epoch:
		f.newest = max(f.newest, f.published.seq)
	case !f.published.IsZero():
		f.entered++ // one that is over
	}
	f.published = ID{} // if it is of yet another epoch, the journal has left that
	h.lag = lag{}
	h.watch.elsewhere, h.watch.asked = time.Time{}, false
}

// appended notes an ID that Publish has been given: for a stream that begins now, and for
// Position, the log ends there or later, even if the tail has still to enter its epoch. The
// caller holds mu.
func (h *Hub) appended(id ID) {
	f := &h.follower
	switch {
	case id.epoch == h.epoch:
		h.knowOf(id.seq, time.Now())
	case f.hasLeft(id.epoch): // a late answer
	case id.epoch == f.published.epoch:
		f.published.seq, h.watch.published = max(f.published.seq, id.seq), time.Now()
	default:
		f.published, h.watch.published = id, time.Now()
	}
}

// hasLeft reports whether the tail has left an epoch.
func (f *follower) hasLeft(epoch uint64) bool {
	return slices.ContainsFunc(f.left, func(l leftEpoch) bool { return l.epoch == epoch })
}

// survived returns the sequence of this epoch up to which a position in another one has been
// seen; 0 if that is not known.
func (f *follower) survived(position ID) uint64 {
	for _, l := range f.left {
		if l.epoch == position.epoch {
			return min(l.survived, position.seq)
		}
	}
	return 0
}

// leave notes that the tail leaves an epoch for another one, and returns up to where its entries
// are still there.
func (f *follower) leave(epoch uint64, change epochChange) (survived uint64) {
	if change.survived.epoch == epoch {
		survived = change.survived.seq
	}
	for i := range f.left {
		f.left[i].survived = min(f.left[i].survived, survived)
	}
	f.left = append(slices.DeleteFunc(f.left, func(l leftEpoch) bool { return l.epoch == epoch }), leftEpoch{epoch, survived})
	f.left = f.left[max(0, len(f.left)-maxLeft):]
	return survived
}

// enter goes over to another epoch of the journal, of which everything up to start is not
// known here. It returns the subscriptions to wake because of it. The caller holds mu.
func (h *Hub) enter(start ID, change epochChange) []*subscription {
	h.kept.clear()
	h.kept.lose(start.seq)
	h.holes = nil
	subs := h.subs.all()
	survived := h.follower.leave(h.epoch, change)
	h.setEpoch(start)
	for _, s := range subs {
		s.enterEpoch(start.seq, survived)
	}
	h.head.Store(start.seq)
	h.knowOf(max(change.newest, change.survived.seq), time.Now())
	h.resolver.catchUp = 0
	h.resolver.nudge()
	return subs
}

package broadcast

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// watch is what a Hub knows of whether it hears of everything that its journal has. The
// resolver asks the engine every lookEvery, so that a tail which yields nothing is told from
// a log to which nothing is added. It is guarded by Hub.mu.
type watch struct {
	opened   time.Time               // when the tail was opened; zero while none is
	reopen   context.CancelCauseFunc // ends the tail; nil while none is open
	answered time.Time               // when the engine answered last, to any call or with an entry

	// elsewhere is when the engine's newest ID was last of another epoch than the Hub's; zero if
	// it has not been since the Hub entered that.
	elsewhere time.Time
	published time.Time // when Publish was last given an ID of the epoch of follower.published

	// stuck is since when the engine answers and has more than this Hub, and the tail yields
	// nothing new; zero if that is not so. Time in which the engine does not answer is added to it.
	stuck    time.Time
	checked  time.Time     // when checkTail ran last
	patience time.Duration // how long to wait before the tail is opened anew again
	reopenAt time.Time     // when it is

	// deaf is set when opening the tail anew has not helped. Streams have been ended then,
	// since they would be silent and believed healthy, and no others begin.
	deaf bool

	// ready is set once the head has reached what the journal had when Run began.
	ready  bool
	asked  bool          // target is set
	target uint64        // the sequence to reach, in the Hub's epoch
	change chan struct{} // closed when ready, deaf, Hub.closed or Run changes, and at the first answer; nil if nobody waits
}

const (
	lookEvery   = time.Second
	lookTimeout = 5 * time.Second

	// followedFor is how long an answer of the engine says that it is there.
	followedFor = 5 * time.Second

	// reopenAfter is how long a tail may yield nothing of what the engine has. It doubles
	// with each attempt that does not help, up to mostPatience.
	reopenAfter  = 3 * time.Second
	mostPatience = 30 * time.Second

	// deafAfter is how long after that streams go on.
	deafAfter = 15 * time.Second

	// elsewhereFor is how long an answer of another epoch counts. It is less than deafAfter,
	// so that a single wrong one ends no streams.
	elsewhereFor = 10 * time.Second

	// staleAfter is when an ID that Publish was given, of an epoch that the tail has not
	// entered, counts no more if the engine still answers from the Hub's epoch.
	staleAfter = time.Minute
)

var errStuck = errors.New("broadcast: the tail has yielded nothing of what the journal has, though the engine answers")

// open notes that a tail is about to be opened, and that reopen ends it.
func (w *watch) open(reopen context.CancelCauseFunc) { w.opened, w.reopen = time.Now(), reopen }

// close notes that no tail is open.
func (w *watch) close() { w.opened, w.reopen = time.Time{}, nil }

// isFollowing reports whether the tail is open, the engine has answered since then and within the
// last seconds, and the tail yields what it has.
func (w *watch) isFollowing(now time.Time) bool {
	return !w.opened.IsZero() && !w.answered.Before(w.opened) && now.Sub(w.answered) < followedFor &&
		(w.stuck.IsZero() || now.Sub(w.stuck) < reopenAfter)
}

// moved notes that the tail has yielded something new. It reports whether that ends the
// Hub's deafness.
func (w *watch) moved() (hears bool) {
	hears = w.deaf
	w.stuck, w.deaf = time.Time{}, false
	if hears {
		w.changed()
	}
	return hears
}

// awaitChange returns a channel that is closed at the next change.
func (w *watch) awaitChange() <-chan struct{} {
	if w.change == nil {
		w.change = make(chan struct{})
	}
	return w.change
}

// changed wakes those that wait for a change.
func (w *watch) changed() {
	if w.change != nil {
		close(w.change)
		w.change = nil
	}
}

// hear notes that the engine has answered. The caller holds mu.
func (h *Hub) hear(now time.Time) {
	h.watch.answered = now
	h.follower.hearEngine()
}

// hearNewest notes what the engine says is its newest ID. The caller holds mu.
func (h *Hub) hearNewest(newest ID, now time.Time) {
	w, f := &h.watch, &h.follower
	switch {
	case h.epoch == 0:
		return
	case newest.epoch != h.epoch:
		w.elsewhere = now
		return
	}
	h.knowOf(newest.seq, now)
	if !f.published.IsZero() && now.Sub(w.published) >= staleAfter {
		f.published = ID{}
	}
	if !w.asked {
		w.asked, w.target = true, newest.seq
	}
	h.checkReady(now)
}

// knowOf notes that the journal has everything up to a sequence of the Hub's epoch. The caller
// holds mu.
func (h *Hub) knowOf(seq uint64, now time.Time) {
	h.follower.newest = max(h.follower.newest, seq)
	if seq > h.head.Load() {
		h.lag.learn(seq, now)
	}
}

// isBehind reports whether the journal has something, as far as this Hub knows, that the
// tail has still to yield. The caller holds mu.
func (h *Hub) isBehind(now time.Time) bool {
	elsewhere := !h.watch.elsewhere.IsZero() && now.Sub(h.watch.elsewhere) < elsewhereFor
	return elsewhere || !h.follower.published.IsZero() || h.epoch != 0 && h.follower.newest > h.head.Load()
}

// behind returns how many entries the tail has still to yield, as far as this Hub knows, and
// for how long it has known of the oldest. The caller holds mu.
func (h *Hub) behind(now time.Time) (entries uint64, lag time.Duration) {
	if !h.isBehind(now) {
		return 0, 0
	}
	if since := h.lag.since(); !since.IsZero() {
		lag = now.Sub(since)
	}
	if !h.watch.stuck.IsZero() {
		lag = max(lag, now.Sub(h.watch.stuck))
	}
	return max(1, h.newest()-h.head.Load()), lag
}

// countAnswered notes that checkTail runs, and reports whether the engine has answered since it
// ran last. Of the time between, at most followedFor counts for a tail that is stuck, and none of it
// if the engine has not answered.
func (w *watch) countAnswered(now time.Time) (answered bool) {
	answered = w.answered.After(w.checked)
	skipped := now.Sub(w.checked)
	if answered {
		skipped = max(0, skipped-followedFor)
	}
	w.checked = now
	if !w.stuck.IsZero() {
		w.stuck, w.reopenAt = w.stuck.Add(skipped), w.reopenAt.Add(skipped)
	}
	return answered
}

// checkTail opens a tail anew that yields nothing of what the engine has. If that does not
// help, it ends the streams.
func (h *Hub) checkTail() {
	now := time.Now()
	h.mu.Lock()
	w := &h.watch
	var reopen context.CancelCauseFunc
	var subs []*subscription
	hears, answered := false, w.countAnswered(now)
	switch {
	case !h.isBehind(now):
		hears = w.moved()
	case !answered: // the engine is away: streams stay as they are
	case w.stuck.IsZero():
		w.stuck, w.patience, w.reopenAt = now, reopenAfter, now.Add(reopenAfter)
	default:
		if !now.Before(w.reopenAt) {
			reopen = w.reopen
			w.patience = min(2*w.patience, mostPatience)
			w.reopenAt = now.Add(w.patience)
		}
		if !w.deaf && now.Sub(w.stuck) >= deafAfter {
			w.deaf = true
			w.changed()
			subs = h.subs.all()
		}
	}
	deaf := subs != nil
	behind, lag := h.behind(now)
	h.mu.Unlock()

	if reopen != nil {
		reopen(errStuck)
	}
	if hears {
		h.log(slog.LevelWarn, "broadcast: the Hub is no longer deaf: its journal's tail has yielded all that the journal has")
	}
	if !deaf {
		return
	}
	for _, s := range subs {
		s.Finish()
	}
	h.log(slog.LevelError, "broadcast: the Hub is deaf: the journal takes messages, and its tail yields none. "+
		"Streams end, and no others begin until it does", "behind", behind, "lag", lag, "streams", len(subs))
}

package broadcast

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// appender groups the messages that are published to a journal. Messages that arrive
// while a group is in flight form the next group. At most maxAppends goroutines run, and
// only while messages wait.
//
// It is no ondemand.Queue, because a Publish whose context ends leaves it from the middle, and
// groups leave it by number and size.
type appender struct {
	mu      sync.Mutex
	waiting []*publication // guarded by mu
	running int            // goroutines; guarded by mu
}

// publication is a call of Publish that waits for the journal.
type publication struct {
	// Set by Publish.
	ctx  context.Context
	m    Message
	done chan struct{} // closed once id and err are set

	// Owned by the goroutine that appends, until it closes done.
	id  ID
	err error

	// Guarded by appender.mu.
	group *group // that it is in flight with; nil while it waits
}

// group is the messages of one Append, which is cancelled when the contexts of all of them
// have ended.
type group struct {
	members []*publication     // set when the group is made
	cancel  context.CancelFunc // set when the group is made
	left    int                // members whose ctx has not ended; guarded by appender.mu
}

const (
	maxAppends    = 2       // at once
	maxGroup      = 512     // messages
	maxGroupBytes = 4 << 20 // or one message

	// maxSingly bounds how long messages of a refused group are appended one by one.
	maxSingly = time.Second
)

// append publishes to the journal. The message reaches this Hub's own subscribers through
// the tail, as it does everywhere, so that all have the same order.
func (h *Hub) append(ctx context.Context, m Message) (ID, error) {
	p := &publication{ctx: ctx, m: m, done: make(chan struct{})}
	a := &h.appender
	a.mu.Lock()
	a.waiting = append(a.waiting, p)
	if a.running < maxAppends {
		a.running++
		go h.appendWaiting()
	}
	a.mu.Unlock()
	select {
	case <-p.done:
		return p.id, p.err
	case <-ctx.Done():
	}
	if a.withdraw(p) {
		return ID{}, fmt.Errorf("%w: the journal was busy: %w", ErrNotPublished, context.Cause(ctx))
	}
	select {
	case <-p.done: // meanwhile
		return p.id, p.err
	default:
		return ID{}, fmt.Errorf("broadcast: appending to the journal: %w", context.Cause(ctx))
	}
}

// withdraw removes a message whose context has ended. It reports whether that surely does
// not arrive, because it was not in flight yet.
func (a *appender) withdraw(p *publication) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.group != nil {
		if p.group.left--; p.group.left == 0 {
			p.group.cancel()
		}
		return false
	}
	for i, other := range a.waiting {
		if other == p {
			a.waiting = append(a.waiting[:i:i], a.waiting[i+1:]...)
		}
	}
	return true
}

// next returns the next group and its context, or nil if no message waits; then the
// calling goroutine must end.
func (a *appender) next() (*group, context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < len(a.waiting) && n < maxGroup {
		if bytes += a.waiting[n].m.size(); n > 0 && bytes > maxGroupBytes {
			break
		}
		n++
	}
	if n == 0 {
		a.waiting = nil
		a.running--
		return nil, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := &group{members: a.waiting[:n:n], left: n, cancel: cancel}
	a.waiting = a.waiting[n:]
	for _, p := range g.members {
		p.group = g
	}
	return g, ctx
}

// appendWaiting appends group after group, until no message waits.
func (h *Hub) appendWaiting() {
	for {
		g, ctx := h.appender.next()
		if g == nil {
			return
		}
		h.appendGroup(ctx, g.members)
		g.cancel()
	}
}

// appendGroup appends messages and gives each publisher the journal's answer. If the
// journal surely added none of several, and does not say which of them it refuses, each is tried
// by itself, since one must not fail the others. That ends after maxSingly, because an engine
// that is away may need long to refuse each, and other messages wait.
func (h *Hub) appendGroup(ctx context.Context, members []*publication) {
	ms := make([]Message, len(members))
	for i, p := range members {
		ms[i] = p.m
	}
	ids, fates, err := h.appendAll(ctx, ms)
	if len(members) > 1 && errors.Is(err, ErrNotPublished) {
		h.appendSingly(members, err)
		return
	}
	for i, p := range members {
		if p.err = err; err == nil {
			p.id, p.err = ids[i], fates[i]
		}
		close(p.done)
	}
}

// appendSingly appends messages one by one. Those that it has no time for get err, which
// refused the group.
func (h *Hub) appendSingly(members []*publication, err error) {
	began := time.Now()
	for i, p := range members {
		if time.Since(began) < maxSingly && p.ctx.Err() == nil {
			h.appendGroup(p.ctx, members[i:i+1])
			continue
		}
		p.err = err
		close(p.done)
	}
}

// appendAll calls Append, and checks and notes what it returns: the ID or the error of each
// message, or one error of all.
func (h *Hub) appendAll(ctx context.Context, ms []Message) (ids []ID, fates []error, err error) {
	err = h.guard("Journal.Append", func() (err error) {
		ids, err = h.Journal.Append(ctx, ms...)
		return err
	})
	each, isEach := errors.AsType[AppendErrors](err)
	switch {
	case err != nil && !isEach:
		return nil, nil, fmt.Errorf("broadcast: appending to the journal: %w", err)
	case len(ids) != len(ms):
		return nil, nil, fmt.Errorf("broadcast: the journal returned %d IDs for %d messages", len(ids), len(ms))
	case isEach && len(each) != len(ms):
		// Not wrapped: which of them were not published is not known.
		return nil, nil, fmt.Errorf("broadcast: the journal returned %d errors for %d messages: %v", len(each), len(ms), err)
	}
	var newest ID
	fates = make([]error, len(ms))
	for i, id := range ids {
		switch {
		case isEach && each[i] != nil:
			fates[i] = fmt.Errorf("broadcast: appending to the journal: %w", each[i])
		case id.epoch <= unknownEpoch:
			fates[i] = fmt.Errorf("broadcast: the journal returned the ID %q, which no message can have", id)
		default:
			newest = id
		}
	}
	if !newest.IsZero() {
		h.mu.Lock()
		h.hear(time.Now())
		h.appended(newest)
		h.mu.Unlock()
	}
	return ids, fates, nil
}

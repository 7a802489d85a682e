package broadcast

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// appender gives the journal what is published: as many messages at once as came while
// those before them were on their way. That are a few goroutines, which exist only while
// somebody waits: while the engine has one group, the next is made and sent.
type appender struct {
	mu      sync.Mutex
	waiting []*publication
	running int
}

// publication is a Publish that waits for the journal.
type publication struct {
	ctx  context.Context
	m    Message
	done chan struct{} // closed when the journal has answered: with
	id   ID
	err  error

	group *group // on its way in this one; nil while it waits. Belongs to appender.mu
}

// group is what goes to the journal in one Append. It is given up when all have.
type group struct {
	members []*publication
	left    int // those whose ctx has not ended; belongs to appender.mu
	cancel  context.CancelFunc
}

const (
	maxAppends    = 2       // at once
	maxGroup      = 512     // messages
	maxGroupBytes = 4 << 20 // or one message
)

// append publishes to the journal. The message reaches this Hub's own subscribers
// through the tail, like everybody else's, so that all agree on the order.
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

// withdraw takes back what is not on its way yet, and reports whether that was so.
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

// next returns the group that goes next, and the context that it has; nil if nobody
// waits, and then the goroutine that asks is over.
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

// appendGroup gives messages to the journal, and their publishers its answer. Where it
// surely took none of several, each has its own try: one that it cannot take must not
// stand in the way of the others. That goes on for a second at most: an engine that is
// away may take long to say so, and those who come later wait.
func (h *Hub) appendGroup(ctx context.Context, members []*publication) {
	ms := make([]Message, len(members))
	for i, p := range members {
		ms[i] = p.m
	}
	ids, err := h.appendAll(ctx, ms)
	if len(members) > 1 && errors.Is(err, ErrNotPublished) {
		for began := time.Now(); len(members) > 0; members = members[1:] {
			p := members[0]
			if time.Since(began) < time.Second && p.ctx.Err() == nil {
				h.appendGroup(p.ctx, members[:1:1])
				continue
			}
			p.err = err
			close(p.done)
		}
		return
	}
	for i, p := range members {
		if p.err = err; err == nil {
			p.id = ids[i]
		}
		close(p.done)
	}
}

// appendAll calls Append. A panic there must not end the process: nobody else recovers
// in a goroutine of ours.
func (h *Hub) appendAll(ctx context.Context, ms []Message) (ids []ID, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("broadcast: panic in Journal.Append: %v", p)
			h.logger().Error("broadcast: panic in Journal.Append", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	ids, err = h.Journal.Append(ctx, ms...)
	switch {
	case err != nil:
		return nil, fmt.Errorf("broadcast: appending to the journal: %w", err)
	case len(ids) != len(ms):
		return nil, fmt.Errorf("broadcast: the journal returned %d IDs for %d messages", len(ids), len(ms))
	}
	newest := ids[len(ids)-1]
	h.mu.Lock()
	defer h.mu.Unlock()
	if newest.epoch == h.epoch {
		h.follower.newest = max(h.follower.newest, newest.seq)
	}
	return ids, nil
}

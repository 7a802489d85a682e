package middleware

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// follower reads a topic that the servers of a service share: first all that is kept of it,
// then what is published. It has a goroutine only while there is something to read, and its
// subscription lives as long as the Broadcaster.
type follower struct {
	// Set before the first use.
	broadcaster broadcast.Broadcaster
	topic       string
	apply       func(*broadcast.Message) // called by one goroutine at a time, without mu
	lost        func()                   // messages may be missing from what apply has got; nil: that does not matter

	// Guarded by mu.
	mu       sync.Mutex
	opening  bool                   // Subscribe runs
	sub      broadcast.Subscription // nil: none is open
	position broadcast.ID           // up to where apply has got everything; zero until it has got all that was kept
	err      error                  // why the last subscription failed or ended
	news     bool                   // a Poll may return something
	reading  bool                   // a goroutine polls
	changed  chan struct{}          // closed at the next change of position or err; nil if nobody waits
}

const (
	// followTimeout is how long a request waits for what the other servers know.
	followTimeout = 5 * time.Second

	// followAgain is how long to wait before asking again whether the log can be reached.
	followAgain = 100 * time.Millisecond
)

// ready waits until everything that this server has of the log was applied, and until the log
// can be reached. It returns an error when ctx ends before that.
func (f *follower) ready(ctx context.Context) error {
	hub, ok := f.broadcaster.(*broadcast.Hub)
	if !ok {
		return f.reach(ctx, broadcast.ID{})
	}
	for {
		if err := hub.Ready(ctx); err != nil {
			return err
		}
		stats := hub.Stats()
		if err := f.reachSoon(ctx, stats.Position); err == nil && (hub.Journal == nil || stats.Following) {
			return nil
		} else if ctx.Err() != nil {
			return errors.Join(err, errNotFollowing)
		}
		select {
		case <-time.After(followAgain):
		case <-ctx.Done():
			return errNotFollowing
		}
	}
}

var errNotFollowing = errors.New("middleware: the Hub does not follow its Journal")

// reachSoon is reach for a position that the log may leave: after an epoch that has ended.
func (f *follower) reachSoon(ctx context.Context, id broadcast.ID) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	f.notify() // the position moves with other topics, too, when somebody polls
	return f.reach(ctx, id)
}

// reach waits until everything up to an ID of the log was applied; up to what is kept, if it
// is zero.
func (f *follower) reach(ctx context.Context, id broadcast.ID) error {
	for {
		f.mu.Lock()
		reached := !f.position.IsZero() && (id.IsZero() || f.position.Epoch() == id.Epoch() && f.position.Seq() >= id.Seq())
		if reached {
			f.mu.Unlock()
			return nil
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		if err := f.open(ctx); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// open opens a subscription, unless there is one.
func (f *follower) open(ctx context.Context) error {
	f.mu.Lock()
	opens := f.sub == nil && !f.opening
	f.opening = f.opening || opens
	f.mu.Unlock()
	if !opens {
		return nil
	}
	sub, err := f.broadcaster.Subscribe(ctx, broadcast.SubscribeOptions{Topics: []string{f.topic}, Beginning: true, Notify: f.notify})
	f.mu.Lock()
	f.opening, f.err = false, err
	if err == nil {
		f.sub = sub
	}
	f.wake()
	f.mu.Unlock()
	if err == nil {
		f.notify()
	}
	return err
}

// wake wakes those that wait for a change. The caller has locked mu.
func (f *follower) wake() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// notify makes sure that somebody polls.
func (f *follower) notify() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.news = true
	if !f.reading && f.sub != nil {
		f.reading = true
		go f.read()
	}
}

// read polls until nothing is left.
func (f *follower) read() {
	buf := make([]*broadcast.Message, 64)
	for {
		f.mu.Lock()
		sub, goOn := f.sub, f.news && f.sub != nil
		f.news, f.reading = false, goOn
		f.mu.Unlock()
		if !goOn {
			return
		}
		if err := f.poll(sub, buf); err != nil {
			_ = sub.Close()
			f.end(err)
		}
	}
}

// poll applies what a subscription has. It returns the error that ends it.
func (f *follower) poll(sub broadcast.Subscription, buf []*broadcast.Message) error {
	for {
		n, err := sub.Poll(buf)
		begin, begins := errors.AsType[*broadcast.BeginError](err)
		switch {
		case begins:
			f.restart(slices.Contains(begin.Partial, f.topic))
		case err != nil:
			return err
		}
		for _, m := range buf[:n] {
			f.apply(m)
		}
		clear(buf[:n])
		if position := sub.Position(); position.Epoch() > unknownEpoch {
			f.mu.Lock()
			f.position = position
			f.wake()
			f.mu.Unlock()
		}
		if n == 0 && !begins {
			return nil
		}
	}
}

// unknownEpoch is the epoch of a position in a beginning.
const unknownEpoch = 1

// restart notes that what is kept of the topic follows: at first, and after a loss.
func (f *follower) restart(partial bool) {
	f.mu.Lock()
	again := !f.position.IsZero()
	f.mu.Unlock()
	if (again || partial) && f.lost != nil {
		f.lost()
	}
}

// end notes that the subscription has ended. The next request opens another.
func (f *follower) end(err error) {
	if f.lost != nil {
		f.lost()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sub, f.position, f.err = nil, broadcast.ID{}, err
	f.wake()
}

package filejournal

import (
	"context"
	"errors"
	"fmt"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Copy appends to an empty journal what another one keeps, in order, and returns how many messages
// that were: for a move from files to an engine, or back. Stop the publishers before, and start the
// servers on the new journal afterwards: what is published meanwhile is not copied. A log in files
// removes nothing meanwhile, so it may become larger than MaxBytes.
//
// The new journal gives its own IDs, so each client that resumes gets one gap, or begins, and then what
// is kept. The value of each Key is there, and of each topic what the old journal had of it. What that
// had removed is missing, and beginnings of such topics are not partial any more.
//
// If something is lost that the old journal should have, Copy copies the rest and returns an error
// that wraps [broadcast.ErrGap]. After any other error the new journal is incomplete: begin again with
// an empty one.
func Copy(ctx context.Context, from, to broadcast.Journal) (messages int, err error) {
	if j, ok := from.(interface {
		keepAll(context.Context) (func(), error)
	}); ok {
		release, err := j.keepAll(ctx)
		if err != nil {
			return 0, fmt.Errorf("filejournal: copying: %w", err)
		}
		defer release()
	}
	oldest, newest, err := from.Bounds(ctx)
	if err != nil {
		return 0, fmt.Errorf("filejournal: copying: %w", err)
	}
	first, last, err := to.Bounds(ctx)
	switch {
	case err != nil:
		return 0, fmt.Errorf("filejournal: copying: %w", err)
	case first.Seq() <= last.Seq():
		return 0, errors.New("filejournal: copying: the journal to copy to has messages already")
	}
	c := &copying{from: from, to: to, epoch: newest.Epoch()}
	before := broadcast.MakeID(c.epoch, oldest.Seq()-1)
	if compactor, ok := from.(broadcast.Compactor); ok && compactor.Compacts() {
		if before.Seq() == 0 {
			before = broadcast.ID{} // after sequence 0 of the epoch entries are left out
		} else if err := c.run(ctx, broadcast.MakeID(c.epoch, 0), before.Seq()); err != nil {
			return c.messages, err
		}
	}
	if oldest.Seq() <= newest.Seq() {
		if err := c.run(ctx, before, newest.Seq()); err != nil {
			return c.messages, err
		}
	}
	if c.lost > 0 {
		return c.messages, fmt.Errorf("filejournal: copying: %w: %d times", broadcast.ErrGap, c.lost)
	}
	return c.messages, nil
}

// copying is a running Copy.
type copying struct {
	from, to broadcast.Journal
	epoch    uint64
	waiting  []broadcast.Message
	messages int
	lost     int // how many gaps there were
}

// copyGroup is how many messages are appended at once.
const copyGroup = 512

// run copies what follows an ID, up to a sequence.
func (c *copying) run(ctx context.Context, after broadcast.ID, upTo uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	last := after.Seq()
	for m, err := range c.from.Tail(ctx, after) {
		if err == nil && m.ID.Seq() > last+1 {
			c.lost++ // what was the oldest has been removed before the Tail began
		}
		last = m.ID.Seq()
		switch {
		case errors.Is(err, broadcast.ErrCompacted) || m.ID == after: // which says something of earlier epochs
		case errors.Is(err, broadcast.ErrGap):
			c.lost++
		case err != nil:
			return fmt.Errorf("filejournal: copying: %w", err)
		case m.ID.Epoch() != c.epoch:
			return errors.New("filejournal: copying: the journal has begun a new epoch meanwhile")
		case m.Topic != "" && m.ID.Seq() <= upTo:
			c.waiting = append(c.waiting, m)
		}
		end := m.ID.Seq() >= upTo
		if len(c.waiting) == copyGroup || end {
			if err := c.flush(ctx); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
	return errors.New("filejournal: copying: the journal's tail ended")
}

func (c *copying) flush(ctx context.Context) error {
	if len(c.waiting) == 0 {
		return nil
	}
	if _, err := c.to.Append(ctx, c.waiting...); err != nil {
		return fmt.Errorf("filejournal: copying: %w", err)
	}
	c.messages += len(c.waiting)
	c.waiting = c.waiting[:0]
	return nil
}

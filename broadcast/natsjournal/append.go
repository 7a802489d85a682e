package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Append sends all messages at once and waits for what the engine says. What got
// no answer because the connection was cut is sent again, for ten seconds at most:
// the engine recognises what it has already. Where some were added and others were
// not, the error is one after which messages may arrive.
//
// A message with its headers must fit into the server's max_payload, 1 MiB unless
// it is configured.
func (j *Journal) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	a := &appending{journal: j}
	if err := a.run(ctx, ms); err != nil {
		if a.uncertain || len(a.ids) > 0 {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
	}
	return a.ids, nil
}

// appending is one call of Append.
type appending struct {
	journal   *Journal
	ids       []broadcast.ID // of the entries from the first one on that were acknowledged
	uncertain bool           // others may have been added, or may yet be
}

func (a *appending) run(ctx context.Context, ms []broadcast.Message) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("natsjournal: %w", err)
	}
	if _, err := a.journal.engine(); err != nil {
		return err
	}
	entries, err := a.journal.encode(ms)
	if err != nil {
		return err
	}
	var refused string // the subject that nobody listened on
	for began := time.Now(); len(a.ids) < len(entries); {
		at, err := a.journal.ready(ctx, refused)
		switch {
		case err != nil && a.uncertain && ctx.Err() == nil && time.Since(began) < patience:
			pause(ctx)
			continue
		case err != nil:
			return err
		case at.subject == refused:
			return fmt.Errorf("natsjournal: appending: %w", jetstream.ErrNoStreamResponse)
		}
		r := a.send(ctx, at, entries[len(a.ids):])
		if err := a.accept(ctx, at, r.acks); err != nil {
			return err
		}
		switch {
		case r.err == nil:
		case ctx.Err() != nil:
			return fmt.Errorf("natsjournal: appending: %w", ctx.Err())
		case r.overtaken:
			return r.err // sent again it would come behind what followed it
		case r.unheard && refused == "":
			refused = at.subject
		case !r.unanswered || time.Since(began) > patience:
			return r.err
		}
	}
	return nil
}

// ready returns where to send to. It asks the engine at first, while there is no
// connection, and about a subject on which nobody listens: the stream may have
// another one by now.
func (j *Journal) ready(ctx context.Context, refused string) (known, error) {
	at := j.have()
	if at.epoch == 0 || at.subject == refused || !j.Conn.IsConnected() {
		if _, err := j.look(ctx); err != nil {
			return known{}, err
		}
		at = j.have()
	}
	return at, nil
}

// round is what became of entries that were sent together.
type round struct {
	acks       []*jetstream.PubAck // of those from the first one on that were acknowledged
	err        error               // why the next one was not
	overtaken  bool                // one behind it was
	unanswered bool                // it and all behind it got no answer
	unheard    bool                // it and all behind it reached no stream
}

func (a *appending) send(ctx context.Context, at known, entries []*nats.Msg) round {
	var futures []jetstream.PubAckFuture
	var unsent error
	for _, entry := range entries {
		entry.Subject = at.subject
		// Not tried again one by one: they would lose their order.
		future, err := a.journal.js.PublishMsgAsync(entry, jetstream.WithRetryAttempts(0))
		if err != nil {
			unsent = fmt.Errorf("natsjournal: appending: %w", err)
			break
		}
		futures = append(futures, future)
	}
	r := round{unanswered: true, unheard: true}
	for _, future := range futures {
		ack, err := wait(ctx, future)
		switch {
		case err == nil && r.err == nil:
			r.acks = append(r.acks, ack)
			continue
		case err == nil:
			r.overtaken, a.uncertain = true, true
			continue
		case r.err == nil:
			r.err = fmt.Errorf("natsjournal: appending: %w", err)
		}
		unanswered, unheard := !refusal(err), errors.Is(err, jetstream.ErrNoStreamResponse)
		a.uncertain = a.uncertain || unanswered
		r.unanswered, r.unheard = r.unanswered && unanswered, r.unheard && unheard
	}
	if unsent != nil {
		r.unanswered, r.unheard = false, false
		if r.err == nil {
			r.err = unsent
		}
	}
	return r
}

func wait(ctx context.Context, future jetstream.PubAckFuture) (*jetstream.PubAck, error) {
	select {
	case ack := <-future.Ok():
		return ack, nil
	case err := <-future.Err():
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// refusal reports whether the engine, or the lack of one, has said no.
func refusal(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// accept makes IDs of acknowledgements. A sequence that had been there before the
// entries were sent shows that the engine lost it: what it gives now is in
// another epoch.
func (a *appending) accept(ctx context.Context, at known, acks []*jetstream.PubAck) error {
	epoch := at.epoch
	for _, ack := range acks {
		if ack.Sequence > at.newest || ack.Duplicate {
			continue
		}
		a.uncertain = true
		v, err := a.journal.renew(ctx, at)
		if err != nil {
			return err
		}
		epoch = v.epoch
		break
	}
	for _, ack := range acks {
		a.journal.seen(epoch, ack.Sequence, time.Time{})
		a.ids = append(a.ids, broadcast.MakeID(epoch, ack.Sequence))
	}
	return nil
}

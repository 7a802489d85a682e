package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/backoff"
)

// Append sends all messages at once and waits for their acknowledgements. Messages that
// got no answer because the connection was lost are sent again for up to ten seconds;
// JetStream recognises those that it already has. If only some messages were added, the
// error does not wrap [broadcast.ErrNotPublished].
//
// A message with its headers must fit into the server's max_payload, which is 1 MiB by
// default.
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
	ids       []broadcast.ID // of the leading entries that were acknowledged
	uncertain bool           // further entries may have been added, or may still be
}

func (a *appending) run(ctx context.Context, ms []broadcast.Message) error {
	if err := a.journal.check(ctx); err != nil {
		return err
	}
	entries, err := a.journal.encode(ms)
	if err != nil {
		return err
	}
	deadSubject := "" // no stream listens on it
	for began := time.Now(); len(a.ids) < len(entries); {
		known, err := a.destination(ctx, deadSubject)
		switch {
		case err != nil && a.uncertain && ctx.Err() == nil && time.Since(began) < maxOutage:
			_ = backoff.Sleep(ctx, retryPause) // an ended ctx fails the next request
			continue
		case err != nil:
			return err
		case known.subject == deadSubject:
			return fmt.Errorf("natsjournal: appending: %w", jetstream.ErrNoStreamResponse)
		}
		s := a.send(ctx, known.subject, entries[len(a.ids):])
		if err := a.accept(ctx, known, s.acks); err != nil {
			return err
		}
		switch {
		case s.outcome == acknowledged:
		case ctx.Err() != nil:
			return fmt.Errorf("natsjournal: appending: %w", ctx.Err())
		case s.outcome == undelivered && deadSubject == "":
			deadSubject = known.subject
		case s.outcome == unanswered && time.Since(began) <= maxOutage: // send again
		default:
			return s.err
		}
	}
	return nil
}

// destination returns the subject to send to, and what else is known of its stream. It
// asks the engine the first time, while there is no connection, and after deadSubject
// turned out to have no stream: the stream may have another subject by now.
func (a *appending) destination(ctx context.Context, deadSubject string) (knowledge, error) {
	j := a.journal
	known := j.known()
	if known.epoch == 0 || known.subject == deadSubject || !j.Conn.IsConnected() {
		if _, err := j.readStream(ctx); err != nil {
			return knowledge{}, err
		}
		known = j.known()
	}
	return known, nil
}

// sending is what became of entries that were sent together.
type sending struct {
	acks    []*jetstream.PubAck // of the leading entries, up to the first failure
	outcome outcome             // of the first entry that failed and of those after it
	err     error               // why the first one failed
}

// outcome is what became of one or several entries.
type outcome int

const (
	// acknowledged: the engine has them.
	acknowledged outcome = iota

	// unanswered: the engine said nothing, so it may have them. They can be sent again,
	// because the engine recognises what it already has.
	unanswered

	// undelivered: no stream listens on their subject, so none was added. They can be
	// sent to another subject.
	undelivered

	// overtaken: an entry after them was acknowledged. They are not sent again, because
	// they would then come after it.
	overtaken

	// refused: the engine refused them, or they failed in different ways. They are not
	// sent again.
	refused
)

// outcomeOf returns the outcome of one entry.
func outcomeOf(err error) outcome {
	var refusal *jetstream.APIError
	switch {
	case err == nil:
		return acknowledged
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return undelivered
	case errors.As(err, &refusal):
		return refused
	}
	return unanswered
}

// and returns the common outcome of entries with the outcome o and of another that was
// sent after them.
func (o outcome) and(next outcome) outcome {
	switch {
	case o == acknowledged, o == next:
		return next
	case o == overtaken, next == acknowledged:
		return overtaken
	}
	return refused
}

// send publishes entries in their order and waits for the answers.
func (a *appending) send(ctx context.Context, subject string, entries []*nats.Msg) sending {
	futures, unsent := a.publish(subject, entries)
	var s sending
	for _, future := range futures {
		ack, err := wait(ctx, future)
		if err == nil && s.err == nil {
			s.acks = append(s.acks, ack)
			continue
		}
		if s.err == nil {
			s.err = fmt.Errorf("natsjournal: appending: %w", err)
		}
		o := outcomeOf(err)
		s.outcome = s.outcome.and(o)
		// Either this one may have been added, or it was, after one that failed.
		a.uncertain = a.uncertain || o == unanswered || o == acknowledged
	}
	if unsent != nil {
		s.outcome = s.outcome.and(refused)
		if s.err == nil {
			s.err = fmt.Errorf("natsjournal: appending: %w", unsent)
		}
	}
	return s
}

// publish hands entries to the connection. If it returns an error, the entry at which
// it stopped and those after it were not sent.
func (a *appending) publish(subject string, entries []*nats.Msg) (futures []jetstream.PubAckFuture, err error) {
	js, err := a.journal.jetStream()
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		entry.Subject = subject
		// nats.go must not retry them one by one: they would lose their order.
		future, err := js.PublishMsgAsync(entry, jetstream.WithRetryAttempts(0))
		if err != nil {
			return futures, err
		}
		futures = append(futures, future)
	}
	return futures, nil
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

// accept turns acknowledgements into IDs. If a sequence existed before the entries were
// sent, the engine has lost the entry that had it, and the new ones belong to another epoch.
func (a *appending) accept(ctx context.Context, before knowledge, acks []*jetstream.PubAck) error {
	epoch := before.epoch
	for _, ack := range acks {
		if ack.Sequence > before.newest || ack.Duplicate {
			continue
		}
		a.uncertain = true
		s, err := a.journal.leaveEpoch(ctx, before)
		if err != nil {
			return err
		}
		epoch = s.epoch
		break
	}
	for _, ack := range acks {
		a.journal.learnEntry(epoch, ack.Sequence, time.Time{})
		a.ids = append(a.ids, broadcast.MakeID(epoch, ack.Sequence))
	}
	return nil
}

package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/backoff"
)

// Append sends all messages at once and waits for their acknowledgements. While the stream
// has no leader, or the connection is lost, it tries again until ctx ends, and for up to ten
// seconds; JetStream recognises the messages that it already has. If some messages were
// added and others were not, the error is a [broadcast.AppendErrors].
//
// A message with its headers must fit into the server's max_payload, which is 1 MiB by
// default; one that does not is refused, and the others of the call are added.
func (j *Journal) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	if err := j.check(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
	}
	a := j.newAppending(ms)
	a.run(ctx)
	j.renewWitness(ctx)
	return a.result()
}

// appending is one call of Append.
type appending struct {
	journal *Journal
	began   time.Time
	states  []appended // of each message
	pending []int      // the messages that are still to be sent, or to be sent again

	deadSubject string // no stream listens on it, or its leader does not answer: read the stream
}

// appended is what has become of one message.
type appended struct {
	entry     *nats.Msg
	id        broadcast.ID
	err       error
	uncertain bool // it may have been added, or may still be
}

func (j *Journal) newAppending(ms []broadcast.Message) *appending {
	a := &appending{
		journal: j,
		began:   time.Now(),
		states:  make([]appended, len(ms)),
		pending: make([]int, 0, len(ms)),
	}
	maxPayload := j.Conn.MaxPayload()
	nonce, first := j.entryIDs(len(ms))
	for i, m := range ms {
		s := &a.states[i]
		if s.entry, s.err = encode(m, nonce+strconv.FormatUint(first+uint64(i), 36), maxPayload); s.err == nil {
			a.pending = append(a.pending, i)
		}
	}
	return a
}

func (a *appending) run(ctx context.Context) {
	for len(a.pending) > 0 {
		known, err := a.destination(ctx)
		switch {
		case err == nil:
			a.round(ctx, known)
		case ctx.Err() != nil:
			a.fail(ctx.Err())
		case a.journal.isTemporary(err) && time.Since(a.began) < maxOutage:
			if isSilence(err) {
				a.journal.revive(ctx)
			}
			_ = backoff.Sleep(ctx, retryPause) // an ended ctx fails the next request
		default:
			a.fail(err)
		}
	}
}

// destination returns the subject to send to, and what else is known of its stream. It asks
// the engine the first time, while there is no connection, while the stream is unusable, and
// after something went wrong: the stream may have another subject by now, or other settings.
func (a *appending) destination(ctx context.Context) (knowledge, error) {
	j := a.journal
	known := j.known()
	if known.epoch == 0 || known.unusable != nil || known.witnessed || known.subject == a.deadSubject || !j.Conn.IsConnected() {
		if _, err := j.resume(ctx); err != nil {
			return knowledge{}, err
		}
		known = j.known()
	}
	return known, nil
}

// round sends what is pending once.
func (a *appending) round(ctx context.Context, known knowledge) {
	p, err := a.journal.publisher()
	if err != nil {
		a.fail(err)
		return
	}
	entries := make([]*nats.Msg, len(a.pending))
	for n, i := range a.pending {
		entries[n] = a.states[i].entry
	}
	answers := p.send(ctx, known.subject, entries)
	epoch, err := a.epochOf(ctx, known, answers)
	if err != nil {
		for _, i := range a.pending {
			a.states[i].uncertain = true
		}
		a.fail(err)
		return
	}
	again := a.accept(ctx, epoch, answers)
	if len(again) == 0 {
		a.pending = nil
		return
	}
	last := answers[len(answers)-1]
	a.pending = again
	if err := a.mayRepeat(ctx, known, last.err); err != nil {
		a.fail(err)
		return
	}
	// The next round reads the stream first. If that has the same subject, it has no leader
	// at the moment.
	if known.subject == a.deadSubject || outcomeOf(last) == unanswered {
		a.journal.revive(ctx)
		_ = backoff.Sleep(ctx, retryPause) // an ended ctx fails the next request
	}
	a.deadSubject = known.subject
}

// mayRepeat returns nil if what is pending may be sent again, and otherwise why not. An entry
// that may have been added is sent again only as long as the engine surely recognises it.
func (a *appending) mayRepeat(ctx context.Context, known knowledge, reason error) error {
	limit := maxOutage
	for _, i := range a.pending {
		if a.states[i].uncertain {
			limit = min(limit, known.duplicates/4)
			break
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("natsjournal: appending: %w", ctx.Err())
	case time.Since(a.began) > limit:
		return fmt.Errorf("natsjournal: appending: %w", reason)
	}
	return nil
}

// outcome is what became of an entry that was sent.
type outcome int

const (
	// acknowledged: the engine has it.
	acknowledged outcome = iota

	// unanswered: the engine said nothing, so it may have it. It can be sent again, because
	// the engine recognises what it already has.
	unanswered

	// undelivered: it did not leave the process, or no stream listens on its subject, or the
	// server is not the leader any more. It was not added, and can be sent again.
	undelivered

	// refused: the engine refused it, and would do so again.
	refused
)

// Codes of errors that pass by themselves: when the cluster has a leader again, or the stream
// has stored what waits.
const (
	codeNotAvailable    jetstream.ErrorCode = 10008
	codeNotLeader       jetstream.ErrorCode = 10009
	codeTooManyRequests jetstream.ErrorCode = 10167
)

func passes(refusal *jetstream.APIError) bool {
	switch refusal.ErrorCode {
	case codeNotAvailable, codeNotLeader, codeTooManyRequests:
		return true
	}
	return false
}

func outcomeOf(a answer) outcome {
	var unsent *unsentError
	var refusal *jetstream.APIError
	switch {
	case a.err == nil:
		return acknowledged
	case errors.Is(a.err, nats.ErrMaxPayload): // of a server with other settings than before
		return refused
	case errors.Is(a.err, jetstream.ErrNoStreamResponse), errors.As(a.err, &unsent):
		return undelivered
	case errors.As(a.err, &refusal):
		if passes(refusal) {
			return undelivered
		}
		return refused
	}
	return unanswered
}

// accept notes the answers to what was pending, and returns what can be sent again without
// changing the order: nothing before an entry that was acknowledged, and nothing that was
// not added before an entry that may have been.
func (a *appending) accept(ctx context.Context, epoch uint64, answers []answer) (again []int) {
	newest := uint64(0)
	lastAcknowledged, lastUnanswered := -1, -1
	for n, answer := range answers {
		s := &a.states[a.pending[n]]
		switch outcomeOf(answer) {
		case acknowledged:
			s.id, s.err = broadcast.MakeID(epoch, answer.seq), nil
			newest = max(newest, answer.seq)
			lastAcknowledged = n
		case unanswered:
			s.uncertain = true
			lastUnanswered = n
		}
	}
	for n, answer := range answers {
		i := a.pending[n]
		switch o := outcomeOf(answer); {
		case o == acknowledged:
			continue
		case n > lastAcknowledged && (o == unanswered || o == undelivered && n > lastUnanswered):
			again = append(again, i)
			continue
		case o == refused:
			a.states[i].err = a.journal.explain(ctx, answer.err)
			continue
		}
		a.states[i].err = fmt.Errorf("natsjournal: appending: %w", answer.err)
	}
	if newest > 0 {
		a.journal.learnEntry(epoch, newest, time.Time{})
	}
	return again
}

// epochOf returns the epoch of the acknowledged entries. If a sequence existed before they
// were sent, the engine has lost the entry that had it, and they belong to another epoch.
func (a *appending) epochOf(ctx context.Context, before knowledge, answers []answer) (uint64, error) {
	for _, answer := range answers {
		if answer.seq == 0 || answer.seq > before.newest || answer.duplicate {
			continue
		}
		s, err := a.journal.leaveEpoch(ctx, before)
		return s.epoch, err
	}
	return before.epoch, nil
}

// isTemporary reports whether an error of a request may pass by itself: the engine does not
// answer, has no leader, or is gone although it has been there before.
func (j *Journal) isTemporary(err error) bool {
	var refusal *jetstream.APIError
	switch {
	case errors.Is(err, ErrUnusable), errors.Is(err, nats.ErrConnectionClosed):
		return false
	case isSilence(err):
		return true
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return j.known().epoch != 0
	case errors.As(err, &refusal):
		return passes(refusal)
	}
	return false
}

// explain returns why an entry was refused. The stream may have got settings with which it is
// unusable; it is looked at for that at most once a second.
func (j *Journal) explain(ctx context.Context, refusal error) error {
	j.mu.Lock()
	due := time.Since(j.looked) > time.Second
	j.mu.Unlock()
	if due {
		_, _ = j.readStream(ctx) // what it finds is noted
	}
	if err := j.known().unusable; err != nil {
		return fmt.Errorf("%w: %w", err, refusal)
	}
	return fmt.Errorf("natsjournal: appending: %w", refusal)
}

// fail gives up what is pending.
func (a *appending) fail(err error) {
	for _, i := range a.pending {
		a.states[i].err = err
	}
	a.pending = nil
}

// result returns the IDs, or one error if all messages failed for the same reason, or an
// error for each message.
func (a *appending) result() ([]broadcast.ID, error) {
	ids := make([]broadcast.ID, len(a.states))
	errs := make(broadcast.AppendErrors, len(a.states))
	failed, alike := 0, true
	for i, s := range a.states {
		ids[i] = s.id
		if s.err == nil {
			continue
		}
		failed++
		alike = alike && s.err == a.states[0].err && s.uncertain == a.states[0].uncertain
		errs[i] = s.err
		if !s.uncertain {
			errs[i] = fmt.Errorf("%w: %w", broadcast.ErrNotPublished, s.err)
		}
	}
	switch {
	case failed == 0:
		return ids, nil
	case failed == len(errs) && alike:
		return nil, errs[0]
	}
	return ids, errs
}

package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// newSubject returns a subject for a new epoch. Its number is random and not a counter:
// nodes that begin an epoch at the same time, or one that does so late, then never
// return to a number that was used before.
func (j *Journal) newSubject() string {
	return j.subject() + "." + strconv.FormatUint(rand.Uint64(), 16)
}

// epochOf returns the epoch of the stream: the number in its subject plus its creation
// time.
func (j *Journal) epochOf(info *jetstream.StreamInfo) (uint64, error) {
	number, err := j.subjectNumber(info.Config.Subjects)
	if err != nil {
		return 0, err
	}
	epoch := number + uint64(info.Created.UnixNano())
	if epoch <= 1 { // reserved
		epoch += 2
	}
	return epoch, nil
}

// subjectNumber returns the number in the stream's only subject.
func (j *Journal) subjectNumber(subjects []string) (uint64, error) {
	if len(subjects) == 1 {
		if text, ok := strings.CutPrefix(subjects[0], j.subject()+"."); ok {
			if n, err := strconv.ParseUint(text, 16, 64); err == nil {
				return n, nil
			}
		}
	}
	return 0, fmt.Errorf("%w: stream %q has the subjects %q, but this node needs only %q with a hexadecimal number: "+
		"set Journal.Subject to the same value on all nodes, or Journal.Stream to a stream that only Journals use",
		ErrUnusable, j.stream(), subjects, j.subject()+".<number>")
}

const lostEntries = "the stream has lost acknowledged entries: a new epoch begins"

// hasLost reports whether the stream has lost entries that this node has seen. A stream
// that ends later may have lost some too, and have got others in their place.
func (j *Journal) hasLost(ctx context.Context, before knowledge, s streamState) (bool, error) {
	switch {
	case before.wentBack(s) && j.Durable:
		return false, fmt.Errorf("natsjournal: stream %q is in an epoch that has ended, on a server that lags behind: "+
			"try again, or unset Journal.Durable if a backup was restored", j.stream())
	case before.epoch != s.epoch:
		return before.wentBack(s), nil
	case s.newest < before.newest && j.Durable:
		return false, fmt.Errorf("natsjournal: stream %q ends at %d on a server that lags behind: this node has seen %d, "+
			"so try again, or unset Journal.Durable if entries were lost", j.stream(), s.newest, before.newest)
	case s.newest < before.newest:
		return true, nil
	case j.Durable, before.tailedAt.IsZero(), before.tailed < s.oldest:
		return false, nil
	}
	m, err := s.stream.GetMsg(ctx, before.tailed)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil // trimmed or deleted meanwhile
	}
	if err != nil {
		return false, fmt.Errorf("natsjournal: reading entry %d of stream %q: %w", before.tailed, j.stream(), err)
	}
	return !m.Time.Equal(before.tailedAt), nil
}

// beginEpoch gives the stream a new subject and so a new epoch. If two nodes do so at
// the same time, the later subject stays, and the other node finds it when it reads the
// stream again.
func (j *Journal) beginEpoch(ctx context.Context, js jetstream.JetStream, s streamState, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	config := s.stream.CachedInfo().Config
	config.Subjects = []string{j.newSubject()}
	if _, err := js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("natsjournal: beginning a new epoch of stream %q: %w", j.stream(), err)
	}
	j.logger().Error("natsjournal: "+reason, "stream", j.stream(), "newest", s.newest)
	return nil
}

// leaveEpoch returns the stream in another epoch than the one that before knows. It
// begins a new epoch unless another node has done so already.
func (j *Journal) leaveEpoch(ctx context.Context, before knowledge) (streamState, error) {
	if j.Durable {
		return streamState{}, fmt.Errorf("natsjournal: stream %q gave a sequence twice: it has lost entries up to %d, "+
			"although Journal.Durable says that it loses nothing: unset Journal.Durable to begin a new epoch", j.stream(), before.newest)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := j.readStream(ctx)
	if err != nil || s.epoch != before.epoch {
		return s, err
	}
	js, err := j.jetStream()
	if err != nil {
		return streamState{}, err
	}
	if err := j.beginEpoch(ctx, js, s, lostEntries); err != nil {
		return streamState{}, err
	}
	return j.readStream(ctx)
}

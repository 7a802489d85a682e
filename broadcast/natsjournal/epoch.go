package natsjournal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare/internal/backoff"
)

// newSubject returns a subject for a new epoch. Its number is random and not a counter:
// nodes that begin an epoch at the same time, or one that does so late, then never
// return to a number that was used before.
func (j *Journal) newSubject() string {
	return j.subject() + "." + strconv.FormatUint(mathrand.Uint64(), 16)
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

// beginEpoch gives the stream a new subject and so the epoch that follows the one of s. It does
// nothing if another node has done so or is about to: the caller finds the epoch when it reads
// the stream again, now or in a moment.
func (j *Journal) beginEpoch(ctx context.Context, js jetstream.JetStream, s streamState, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	claimed, err := j.claim(ctx, s)
	switch {
	case err != nil:
		return err
	case !claimed:
		_ = backoff.Sleep(ctx, retryPause) // an ended ctx fails the next request
		return nil
	}
	now, err := j.openStream(ctx, js)
	if err != nil || now.epoch != s.epoch { // an earlier claim has expired meanwhile
		return err
	}
	config := now.stream.CachedInfo().Config
	config.Subjects = []string{j.newSubject()}
	config.Metadata = withLeft(config.Metadata, append(now.left, now.epoch))
	if _, err := js.UpdateStream(ctx, config); err != nil {
		var refusal *jetstream.APIError
		if errors.As(err, &refusal) { // otherwise the engine may still do it
			_ = now.stream.DeleteConsumer(ctx, claimName(s.epoch))
		}
		return fmt.Errorf("natsjournal: beginning a new epoch of stream %q: %w", j.stream(), err)
	}
	j.logger().Error("natsjournal: "+reason, "stream", j.stream(), "newest", s.newest)
	return nil
}

// leftKey is the field of the stream's metadata that names the epochs which it has left. A node
// that starts later so knows one of them when a backup brings it back.
const leftKey = "fanfare-left"

// withLeft returns metadata that names epochs, at most the newest maxLeft.
func withLeft(metadata map[string]string, epochs []uint64) map[string]string {
	texts := make([]string, 0, maxLeft)
	for _, epoch := range epochs[max(0, len(epochs)-maxLeft):] {
		texts = append(texts, strconv.FormatUint(epoch, 16))
	}
	metadata = maps.Clone(metadata)
	if metadata == nil {
		metadata = make(map[string]string)
	}
	metadata[leftKey] = strings.Join(texts, " ")
	return metadata
}

// leftOf returns the epochs that metadata names.
func leftOf(metadata map[string]string) (epochs []uint64) {
	for _, text := range strings.Fields(metadata[leftKey]) {
		if epoch, err := strconv.ParseUint(text, 16, 64); err == nil {
			epochs = append(epochs, epoch)
		}
	}
	return epochs
}

// A node that is about to begin an epoch claims that, because the engine does not compare
// what it replaces when it updates a stream: of several updates each would be an epoch of its
// own. The claim is a consumer with a name for the epoch that ends. The engine creates
// only one of that name, and deletes it when claimTime has passed, also if the node has died.
// Until then a node that starts expects the one that has claimed to follow the stream.
const (
	claimPrefix = "fanfare-claim-"
	claimNode   = "fanfare-node"
	claimTime   = 5 * time.Second // longer than requestTimeout
)

func claimName(epoch uint64) string { return claimPrefix + strconv.FormatUint(epoch, 16) }

// claim reports whether it is this call that ends the epoch of s.
func (j *Journal) claim(ctx context.Context, s streamState) (bool, error) {
	_, err := s.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Name:              claimName(s.epoch),
		Description:       "a node begins a new epoch",
		DeliverPolicy:     jetstream.DeliverNewPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: thresholdFor(s.stream, claimTime),
		MemoryStorage:     true,
		Replicas:          1,
		Metadata:          map[string]string{claimNode: rand.Text()}, // the engine takes equal ones for one
	})
	switch {
	case errors.Is(err, jetstream.ErrConsumerExists):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("natsjournal: creating consumer %q of stream %q: %w", claimName(s.epoch), j.stream(), err)
	}
	return true, nil
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
	for err == nil && s.epoch == before.epoch {
		if err = j.beginEpoch(ctx, js, s, lostEntries); err == nil {
			s, err = j.readStream(ctx)
		}
	}
	return s, err
}

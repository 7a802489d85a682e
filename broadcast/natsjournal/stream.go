package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare/internal/backoff"
)

// streamState is what the engine reports of the stream at one moment.
type streamState struct {
	epoch   uint64
	left    []uint64 // the epochs before, as far as the stream says
	oldest  uint64   // sequence of the oldest entry that is kept; newest+1 if none is
	newest  uint64   // sequence of the newest entry that there ever was
	subject string
	stream  jetstream.Stream

	duplicates time.Duration          // how long it recognises an entry that it already has
	cluster    *jetstream.ClusterInfo // its replicas; nil on a server that is no part of a cluster
	fresh      bool                   // created since this call began, by this node or another
	age        time.Duration          // since it was created, as the engine counts
}

// Codes of errors that an engine returns instead of creating a stream.
const (
	codeAccountLimit  jetstream.ErrorCode = 10002
	codeNoPeers       jetstream.ErrorCode = 10005
	codeNoRoom        jetstream.ErrorCode = 10023
	codeNoMemory      jetstream.ErrorCode = 10028
	codeNoStorage     jetstream.ErrorCode = 10047
	codeNoCluster     jetstream.ErrorCode = 10074
	codeBytesRequired jetstream.ErrorCode = 10113
	codeStreamBytes   jetstream.ErrorCode = 10122
)

// catchUpTime is how long a server that reports less than this node has seen is given
// before the difference counts as a loss. A leader that has just been elected may still
// be applying entries.
const catchUpTime = requestTimeout / 2

// deletionTime is how long an engine is given to delete a stream before a node that has known
// it creates another one. The engine forgets the name first and removes the folder afterwards:
// that of a stream that was created in between.
const deletionTime = time.Second

// readStream asks the engine for the stream. It creates the stream if there is none, and
// begins a new epoch if the stream has lost entries that this node has seen, or, at first,
// may have lost some that only others have.
func (j *Journal) readStream(ctx context.Context) (streamState, error) {
	if err := j.check(ctx); err != nil {
		return streamState{}, err
	}
	js, err := j.jetStream()
	if err != nil {
		return streamState{}, err
	}
	if j.known().epoch == 0 {
		if err := j.enterOnce(ctx, js); err != nil {
			return streamState{}, err
		}
	}
	return j.readAgain(ctx, js)
}

// enterOnce enters the stream unless another call has done so meanwhile.
func (j *Journal) enterOnce(ctx context.Context, js jetstream.JetStream) error {
	release, err := j.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if j.known().epoch != 0 {
		return nil
	}
	return j.enter(ctx, js)
}

// resume reads the stream before this node adds to it, and deletes the witness with which this
// node may have entered.
func (j *Journal) resume(ctx context.Context) (streamState, error) {
	s, err := j.readStream(ctx)
	if err != nil || !j.known().witnessed {
		return s, err
	}
	release, err := j.acquire(ctx)
	if err != nil {
		return streamState{}, err
	}
	defer release()
	return s, j.deleteWitness(ctx, s)
}

// readAgain asks the engine for the stream, of which this node knows something.
func (j *Journal) readAgain(ctx context.Context, js jetstream.JetStream) (streamState, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for began := time.Now(); ; {
		// Read first: what this node learns while the engine answers is not lost.
		before := j.known()
		s, err := j.openStream(ctx, js)
		if err != nil {
			return streamState{}, err
		}
		lost, err := j.hasLost(ctx, before, s)
		if err != nil {
			return streamState{}, err
		}
		if !lost {
			j.learnStream(s)
			return s, nil
		}
		if (s.epoch != before.epoch || s.newest < before.newest) && time.Since(began) < catchUpTime {
			_ = backoff.Sleep(ctx, retryPause) // an ended ctx fails the next request
			continue
		}
		if err := j.beginEpoch(ctx, js, s, lostEntries); err != nil {
			return streamState{}, err
		}
	}
}

// openStream asks the engine for the stream, creates it if there is none, and checks its
// settings.
func (j *Journal) openStream(ctx context.Context, js jetstream.JetStream) (streamState, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := js.Stream(ctx, j.stream())
	fresh := errors.Is(err, jetstream.ErrStreamNotFound)
	if fresh && j.known().epoch != 0 {
		_ = backoff.Sleep(ctx, deletionTime) // an ended ctx fails the next request
	}
	if fresh {
		stream, err = j.createStream(ctx, js)
	}
	if err != nil {
		err = fmt.Errorf("natsjournal: reading stream %q: %w", j.stream(), err)
		j.learnUsable(err)
		return streamState{}, err
	}
	s, err := j.stateOf(stream)
	s.fresh = fresh
	j.learnUsable(err)
	return s, err
}

// stateOf checks the settings of a stream and returns what the engine reports of it.
func (j *Journal) stateOf(stream jetstream.Stream) (streamState, error) {
	info := stream.CachedInfo()
	if err := j.checkStream(info.Config); err != nil {
		return streamState{}, err
	}
	epoch, err := j.epochOf(info)
	if err != nil {
		return streamState{}, err
	}
	j.warnOfDifferences(info.Config)
	s := streamState{
		epoch:      epoch,
		left:       leftOf(info.Config.Metadata),
		oldest:     info.State.FirstSeq,
		newest:     info.State.LastSeq,
		subject:    info.Config.Subjects[0],
		duplicates: info.Config.Duplicates,
		cluster:    info.Cluster,
		stream:     stream,
		age:        info.TimeStamp.Sub(info.Created),
	}
	if info.State.Msgs == 0 {
		s.oldest = s.newest + 1
	}
	return s, nil
}

// createStream creates the stream, or returns the one that another node has created
// meanwhile.
func (j *Journal) createStream(ctx context.Context, js jetstream.JetStream) (stream jetstream.Stream, err error) {
	config := j.streamConfig()
	config.Subjects = []string{j.newSubject()}
	stream, err = js.CreateStream(ctx, config)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return js.Stream(ctx, j.stream())
	}
	var refusal *jetstream.APIError
	if !errors.As(err, &refusal) {
		return stream, err
	}
	return nil, j.hint(refusal)
}

// hint says what an operator can do about an engine that does not create the stream.
func (j *Journal) hint(refusal *jetstream.APIError) error {
	config := j.streamConfig()
	store := "max_file_store"
	if j.Memory {
		store = "max_memory_store"
	}
	switch refusal.ErrorCode {
	case codeNoRoom, codeNoMemory, codeNoStorage, codeAccountLimit, codeStreamBytes, codeNoPeers:
		return fmt.Errorf("%w: JetStream has no room for it: creating it reserves %d bytes (Journal.MaxBytes; 1 GiB if zero) on each of %d servers (Journal.Replicas): "+
			"set Journal.MaxBytes lower, or raise the servers' %s or the account's limits: %w", ErrUnusable, config.MaxBytes, config.Replicas, store, refusal)
	case codeBytesRequired:
		return fmt.Errorf("%w: the account requires a size: set Journal.MaxBytes: %w", ErrUnusable, refusal)
	case codeNoCluster:
		return fmt.Errorf("%w: Journal.Replicas is %d, but the server is no part of a cluster: %w", ErrUnusable, config.Replicas, refusal)
	}
	return refusal
}

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
	oldest  uint64 // sequence of the oldest entry that is kept; newest+1 if none is
	newest  uint64 // sequence of the newest entry that there ever was
	subject string
	stream  jetstream.Stream
}

// catchUpTime is how long a server that reports less than this node has seen is given
// before the difference counts as a loss. A leader that has just been elected may still
// be applying entries.
const catchUpTime = requestTimeout / 2

// readStream asks the engine for the stream. It creates the stream if there is none, and
// begins a new epoch if the stream has lost entries that this node has seen.
func (j *Journal) readStream(ctx context.Context) (streamState, error) {
	if err := j.check(ctx); err != nil {
		return streamState{}, err
	}
	js, err := j.jetStream()
	if err != nil {
		return streamState{}, err
	}
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
		if s.newest < before.newest && time.Since(began) < catchUpTime {
			_ = backoff.Sleep(ctx, retryPause) // an ended ctx fails the next request
			continue
		}
		if err := j.beginEpoch(ctx, js, s); err != nil {
			return streamState{}, err
		}
	}
}

// openStream asks the engine for the stream, creates it if there is none, and checks its
// settings.
func (j *Journal) openStream(ctx context.Context, js jetstream.JetStream) (streamState, error) {
	stream, err := js.Stream(ctx, j.stream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		config := j.streamConfig()
		config.Subjects = []string{j.newSubject()}
		stream, err = js.CreateStream(ctx, config)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was faster
			stream, err = js.Stream(ctx, j.stream())
		}
	}
	if err != nil {
		return streamState{}, fmt.Errorf("natsjournal: reading stream %q: %w", j.stream(), err)
	}
	info := stream.CachedInfo()
	if err := j.checkStream(info.Config); err != nil {
		return streamState{}, err
	}
	epoch, err := j.epochOf(info)
	if err != nil {
		return streamState{}, err
	}
	s := streamState{
		epoch:   epoch,
		oldest:  info.State.FirstSeq,
		newest:  info.State.LastSeq,
		subject: info.Config.Subjects[0],
		stream:  stream,
	}
	if info.State.Msgs == 0 {
		s.oldest = s.newest + 1
	}
	return s, nil
}

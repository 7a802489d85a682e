package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// view is what the engine says of the stream.
type view struct {
	epoch, oldest, newest uint64
	subject               string
	stream                jetstream.Stream
}

// look asks the engine for the stream. It makes it where there is none, and begins
// another epoch where the stream has lost what this node has seen of it.
func (j *Journal) look(ctx context.Context) (view, error) {
	js, err := j.engine()
	if err != nil {
		return view{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	for began := time.Now(); ; {
		// Taken first: what comes while the engine answers is not missing.
		before := j.have()
		v, err := j.ask(ctx, js)
		if err != nil {
			return view{}, err
		}
		lost, err := j.lost(ctx, before, v)
		if err != nil {
			return view{}, err
		}
		if !lost {
			j.enter(v)
			return v, nil
		}
		if v.newest < before.newest && time.Since(began) < doubt {
			pause(ctx)
			continue
		}
		if err := j.raise(ctx, js, v); err != nil {
			return view{}, err
		}
	}
}

// doubt is how long an engine is asked again that knows less than this node has seen. A
// leader that has just been elected may not have taken in all that it has.
const doubt = answer / 2

func (j *Journal) ask(ctx context.Context, js jetstream.JetStream) (view, error) {
	stream, err := js.Stream(ctx, j.stream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		config := j.settings()
		config.Subjects = []string{j.subject() + "." + draw()}
		stream, err = js.CreateStream(ctx, config)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was faster
			stream, err = js.Stream(ctx, j.stream())
		}
	}
	if err != nil {
		return view{}, fmt.Errorf("natsjournal: asking for stream %q: %w", j.stream(), err)
	}
	info := stream.CachedInfo()
	if err := j.check(info.Config); err != nil {
		return view{}, err
	}
	drawn, err := j.drawn(info.Config.Subjects)
	if err != nil {
		return view{}, err
	}
	v := view{
		epoch:   drawn + uint64(info.Created.UnixNano()),
		oldest:  info.State.FirstSeq,
		newest:  info.State.LastSeq,
		subject: info.Config.Subjects[0],
		stream:  stream,
	}
	if v.epoch <= 1 { // reserved
		v.epoch += 2
	}
	if info.State.Msgs == 0 {
		v.oldest = v.newest + 1
	}
	return v, nil
}

// draw returns a new number for the stream's subject. It is random, and no count,
// so that two nodes that begin an epoch at the same time, or one that does so late,
// never come back to a number that there was before.
func draw() string { return strconv.FormatUint(rand.Uint64(), 16) }

// drawn returns the number in the stream's subject.
func (j *Journal) drawn(subjects []string) (uint64, error) {
	if len(subjects) == 1 {
		if text, ok := strings.CutPrefix(subjects[0], j.subject()+"."); ok {
			if n, err := strconv.ParseUint(text, 16, 64); err == nil {
				return n, nil
			}
		}
	}
	return 0, fmt.Errorf("%w: stream %q has the subjects %q, this node wants %q with a number in hexadecimal: "+
		"set Journal.Subject alike on all nodes, or Journal.Stream to a stream of its own",
		ErrUnusable, j.stream(), subjects, j.subject()+".<number>")
}

// lost reports whether the stream is not, or no longer, what this node has seen.
// That it ends further on is no proof: others may have added to what is left.
func (j *Journal) lost(ctx context.Context, before known, v view) (bool, error) {
	switch {
	case before.epoch != v.epoch:
		return false, nil
	case v.newest < before.newest && j.Durable:
		return false, fmt.Errorf("natsjournal: stream %q ends at %d in the answer of a server that is behind: it has had %d",
			j.stream(), v.newest, before.newest)
	case v.newest < before.newest:
		return true, nil
	case j.Durable, before.at.IsZero(), before.tailed < v.oldest:
		return false, nil
	}
	m, err := v.stream.GetMsg(ctx, before.tailed)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil // trimmed or deleted meanwhile
	}
	if err != nil {
		return false, fmt.Errorf("natsjournal: asking for entry %d of stream %q: %w", before.tailed, j.stream(), err)
	}
	return !m.Time.Equal(before.at), nil
}

// raise begins another epoch. Where two nodes do so at the same time the later one
// stands, and the other notices when it looks again.
func (j *Journal) raise(ctx context.Context, js jetstream.JetStream, v view) error {
	config := v.stream.CachedInfo().Config
	config.Subjects = []string{j.subject() + "." + draw()}
	if _, err := js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("natsjournal: beginning another epoch of stream %q: %w", j.stream(), err)
	}
	j.logger().Error("natsjournal: the stream has lost entries that it had acknowledged, a new epoch begins",
		"stream", j.stream(), "newest", v.newest)
	return nil
}

// renew begins another epoch than the one that this node was in, unless that has
// happened meanwhile.
func (j *Journal) renew(ctx context.Context, at known) (view, error) {
	if j.Durable {
		return view{}, fmt.Errorf("natsjournal: stream %q gave a sequence again although Journal.Durable says that it loses nothing: it has had %d",
			j.stream(), at.newest)
	}
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	v, err := j.look(ctx)
	if err != nil || v.epoch != at.epoch {
		return v, err
	}
	if err := j.raise(ctx, j.js, v); err != nil {
		return view{}, err
	}
	return j.look(ctx)
}

// enter notes what the engine says.
func (j *Journal) enter(v view) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if v.epoch != j.known.epoch {
		j.known = known{epoch: v.epoch, subject: v.subject}
	}
	j.known.newest = max(j.known.newest, v.newest)
}

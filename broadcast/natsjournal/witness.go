package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare/internal/backoff"
)

// A node that starts has seen nothing, so that by itself it cannot know whether the engine
// has lost entries. It relies on another node that follows the stream, which would have
// noticed, or on a witness: what the last node that closed cleanly knew. The engine keeps
// that as the metadata of a durable consumer which nobody reads, because consumers are
// created and deleted atomically, as the settings of a stream are not.
const (
	witnessName   = "fanfare-witness"
	witnessEpoch  = "fanfare-epoch"
	witnessNewest = "fanfare-newest"

	// consumerPrefix is that of the consumers of tails.
	consumerPrefix = "fanfare_"

	// settleTime is how long a node that starts waits for others: for those that start at the
	// same time, or reconnect after a restart of the engine. A random part of spread comes on
	// top, so that of several nodes one begins the new epoch and the others find it.
	settleTime = 3 * time.Second
	spread     = time.Second

	// lookPause is the pause between two looks at the followers.
	lookPause = 100 * time.Millisecond

	// leaveLooks is how often a node that closes looks whether others follow.
	leaveLooks = 3
)

// census is what the engine knows of the nodes at one moment.
type census struct {
	following bool              // another node is reading the stream
	claimed   bool              // another node begins an epoch, or has done so a moment ago
	delivered map[string]uint64 // how many entries each consumer has been sent
	witness   map[string]string // the witness; nil if there is none
}

// attests reports whether the stream has all that the witness knew. Entries that follow may have
// been on their way when the last node closed.
func (c census) attests(s streamState) bool {
	newest, err := strconv.ParseUint(c.witness[witnessNewest], 10, 64)
	return err == nil && c.witness[witnessEpoch] == strconv.FormatUint(s.epoch, 16) && s.newest >= newest
}

// look counts the nodes that follow the stream: those whose consumer has a pull that waits for
// entries, or has been sent some since an earlier look. The consumer of a node that has died
// has neither.
func (j *Journal) look(ctx context.Context, s streamState, before census) (census, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c := census{delivered: make(map[string]uint64)}
	names := s.stream.ConsumerNames(ctx)
	var mu sync.Mutex // guards c
	var asking sync.WaitGroup
	for name := range names.Name() {
		if strings.HasPrefix(name, claimPrefix) {
			mu.Lock()
			c.claimed = true
			mu.Unlock()
			continue
		}
		if name != witnessName && !strings.HasPrefix(name, consumerPrefix) {
			continue
		}
		asking.Go(func() {
			consumer, err := s.stream.Consumer(ctx, name)
			if err != nil {
				return // it is gone, or its server is away
			}
			info := consumer.CachedInfo()
			mu.Lock()
			defer mu.Unlock()
			if name == witnessName {
				c.witness = info.Config.Metadata
				return
			}
			sent, known := before.delivered[name]
			c.delivered[name] = info.Delivered.Consumer
			c.following = c.following || info.NumWaiting > 0 || known && sent != info.Delivered.Consumer
		})
	}
	asking.Wait()
	if err := names.Err(); err != nil {
		return census{}, fmt.Errorf("natsjournal: looking for other nodes on stream %q, which takes permission to list consumers and to get their info: %w",
			j.stream(), err)
	}
	return c, nil
}

// enter is the first look of this node at the stream. It begins a new epoch unless somebody
// attests that nothing is lost: the stream has just been created, a node follows it, the
// witness of the last node matches, or another node has begun an epoch meanwhile.
func (j *Journal) enter(ctx context.Context, js jetstream.JetStream) error {
	var seen census
	first := uint64(0)
	for due := time.Now().Add(settleTime + rand.N(spread)); ; {
		s, err := j.openStream(ctx, js)
		if err != nil {
			return err
		}
		if s.fresh || j.Durable || first != 0 && s.epoch != first {
			j.learnStream(s)
			return nil
		}
		first = s.epoch
		if seen, err = j.look(ctx, s, seen); err != nil {
			return err
		}
		switch attested := seen.attests(s); {
		case seen.following, attested:
			j.setWitnessed(seen.witness != nil)
			j.learnStream(s)
			return nil
		case time.Now().After(due) && !seen.claimed && s.age > claimTime:
			err = j.beginEpoch(ctx, js, s, "no other node follows the stream, and none has closed cleanly with what it has: "+
				"a new epoch begins, since entries may be lost")
		default:
			err = backoff.Sleep(ctx, lookPause)
		}
		if err != nil {
			return err
		}
	}
}

// deleteWitness deletes the witness, if there is one. Once a node uses the stream, what the
// last node knew is no proof any more: the engine could lose all that follows it.
func (j *Journal) deleteWitness(ctx context.Context, s streamState) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	j.setAttested(0)
	err := s.stream.DeleteConsumer(ctx, witnessName)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("natsjournal: deleting consumer %q of stream %q: %w", witnessName, j.stream(), err)
	}
	j.setWitnessed(false)
	return nil
}

// leave makes this node the witness of what the stream has, unless another node follows it.
func (j *Journal) leave(ctx context.Context) {
	if j.Durable || !j.retire() || !j.Conn.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	if err := j.writeWitness(ctx); err != nil {
		j.logger().Warn("natsjournal: this node closes without a witness: if it is the last one, the next begins a new epoch", "error", err)
	}
}

// renewWitness adds to the witness what an Append has added that ends after this node's last
// Tail, before the Append returns. Without that, the witness is older than the stream, which
// proves less.
func (j *Journal) renewWitness(ctx context.Context) {
	if !j.mustAttest() || !j.Conn.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), heartbeat)
	defer cancel()
	if err := j.writeWitness(ctx); err != nil {
		j.logger().Debug("natsjournal: the witness is older than the stream", "error", err)
	}
}

func (j *Journal) writeWitness(ctx context.Context) error {
	release, err := j.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if !j.mustAttest() {
		return nil // another call has, or a Tail has begun
	}
	js, err := j.jetStream()
	if err != nil {
		return err
	}
	s, err := j.readAgain(ctx, js)
	if err != nil {
		return err
	}
	if followed, err := j.isFollowed(ctx, s); followed || err != nil {
		return err
	}
	_, err = s.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       witnessName,
		Description:   "all nodes have closed cleanly; this is what the stream had then, for the next node that starts",
		DeliverPolicy: jetstream.DeliverNewPolicy,
		AckPolicy:     jetstream.AckNonePolicy,
		Metadata: map[string]string{
			witnessEpoch:  strconv.FormatUint(s.epoch, 16),
			witnessNewest: strconv.FormatUint(s.newest, 10),
		},
	})
	if err != nil {
		return fmt.Errorf("natsjournal: creating consumer %q of stream %q: %w", witnessName, j.stream(), err)
	}
	// A node that follows since then may have looked for a witness before there was one.
	followed, err := j.isFollowed(ctx, s)
	if followed || err != nil {
		return errors.Join(err, j.deleteWitness(ctx, s))
	}
	j.setAttested(s.newest)
	return nil
}

// isFollowed reports whether another node follows the stream. It looks again where that is not
// clear, as while a node handles what it has just been sent.
func (j *Journal) isFollowed(ctx context.Context, s streamState) (bool, error) {
	var seen census
	for looks := 1; ; looks++ {
		var err error
		if seen, err = j.look(ctx, s, seen); err != nil {
			return false, err
		}
		if seen.following || len(seen.delivered) == 0 || looks == leaveLooks {
			return seen.following, nil
		}
		if err := backoff.Sleep(ctx, lookPause); err != nil {
			return false, err
		}
	}
}

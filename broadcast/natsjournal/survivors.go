package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare/broadcast"
)

// sightings are entries of an epoch that Tails of this node have read, oldest first: the newest
// ones all, older ones the more sparsely the older they are. When another epoch begins, they
// show which entries are still there: an entry with the same sequence and the same time is the
// same, and so are all before it.
type sightings struct {
	epoch   uint64
	entries []sighting
}

type sighting struct {
	seq      uint64
	storedAt int64 // when the engine stored it, in nanoseconds
}

// maxSightings is how many entries are remembered. Of so many, at least half are the newest ones
// without a hole.
const maxSightings = 2048

func (s *sightings) add(seq uint64, storedAt time.Time) {
	n := len(s.entries)
	if n > 0 && seq <= s.entries[n-1].seq {
		return // a Tail that began further back
	}
	if n == maxSightings {
		s.thin()
	}
	s.entries = append(s.entries, sighting{seq, storedAt.UnixNano()})
}

// thin drops every second one of the older half.
func (s *sightings) thin() {
	half, n := len(s.entries)/2, 0
	for i := 0; i < half; i += 2 {
		s.entries[n] = s.entries[i]
		n++
	}
	s.entries = append(s.entries[:n], s.entries[half:]...)
}

// sightingsOf returns the sightings of an epoch, and makes room for them if there are none. The
// caller holds mu.
func (j *Journal) sightingsOf(epoch uint64) *sightings {
	for i := range j.seen {
		if j.seen[i].epoch == epoch {
			return &j.seen[i]
		}
	}
	j.seen[1] = j.seen[0]
	j.seen[0] = sightings{epoch: epoch}
	return &j.seen[0]
}

// sightedIn returns the sightings of an epoch whose sequences the stream has.
func (j *Journal) sightedIn(epoch uint64, s streamState) (found []sighting) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, known := range j.seen {
		if known.epoch == epoch {
			found = slices.Clone(known.entries)
		}
	}
	return slices.DeleteFunc(found, func(e sighting) bool { return e.seq < s.oldest || e.seq > s.newest })
}

// survived returns the newest entry of an earlier epoch that is surely still in the stream; zero
// if that is not known of any.
func (j *Journal) survived(ctx context.Context, s streamState, epoch uint64) (broadcast.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	seen := j.sightedIn(epoch, s)
	there, gone := 0, len(seen) // those before there are in the stream, those from gone on are not
	for probe := len(seen) - 1; there < gone; probe = (there + gone) / 2 {
		m, err := s.stream.GetMsg(ctx, seen[probe].seq)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			gone = probe // deleted by itself, or trimmed meanwhile: it shows nothing
		case err != nil:
			return broadcast.ID{}, fmt.Errorf("natsjournal: reading entry %d of stream %q: %w", seen[probe].seq, j.stream(), err)
		case m.Time.UnixNano() == seen[probe].storedAt:
			there = probe + 1
		default:
			gone = probe
		}
	}
	if there == 0 {
		return broadcast.ID{}, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if now := j.sightingsOf(s.epoch); len(now.entries) == 0 {
		now.entries = seen[:there] // if this epoch ends before a Tail has read them again
	}
	return broadcast.MakeID(epoch, seen[there-1].seq), nil
}

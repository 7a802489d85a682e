package natsjournal

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/backoff"
)

// maxLeaderPause is the longest pause before a leader is asked again. Replicas answer its
// heartbeats every second.
const maxLeaderPause = 250 * time.Millisecond

// Bounds asks the leader of the stream. The result may include entries that other nodes
// have sent and whose acknowledgement is still under way.
//
// A leader that the network has cut off from the other replicas goes on answering for some
// seconds, with less than the stream has. So an answer counts once a majority of the replicas
// has answered the leader after Bounds was called, which takes up to a second where nothing
// is published. If that does not happen for ten seconds, Bounds returns an error.
func (j *Journal) Bounds(ctx context.Context) (oldest, newest broadcast.ID, err error) {
	pause := retryPause
	for began := time.Now(); ; {
		asked := time.Since(began)
		s, err := j.readStream(ctx)
		switch {
		case err != nil:
			return broadcast.ID{}, broadcast.ID{}, err
		case leads(s.cluster, asked):
			return broadcast.MakeID(s.epoch, s.oldest), broadcast.MakeID(s.epoch, s.newest), nil
		case asked > maxOutage:
			return broadcast.ID{}, broadcast.ID{}, fmt.Errorf("natsjournal: the leader of stream %q, %s, has not heard of a majority "+
				"of its replicas for %v: it may be cut off from them", j.stream(), s.cluster.Leader, maxOutage)
		}
		if err := backoff.Sleep(ctx, pause); err != nil {
			return broadcast.ID{}, broadcast.ID{}, fmt.Errorf("natsjournal: asking the leader of stream %q again: %w", j.stream(), err)
		}
		pause = min(2*pause, maxLeaderPause)
	}
}

// leads reports whether the leader that answered has heard of a majority of its replicas
// within a time. A stream without replicas has no other leader.
func leads(cluster *jetstream.ClusterInfo, within time.Duration) bool {
	if cluster == nil {
		return true
	}
	heard := 1 // of itself
	for _, replica := range cluster.Replicas {
		if replica.Active > 0 && replica.Active <= within {
			heard++
		}
	}
	return heard > (len(cluster.Replicas)+1)/2
}

package redisjournal

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
)

// streamState is what Redis reports of the stream at one moment.
type streamState struct {
	runID   string       // of Redis
	floor   broadcast.ID // just before the oldest entry that is kept; newest if none is
	newest  broadcast.ID // of the newest entry that there ever was
	link    link         // of the newest entry; zero if it is not kept, or has none
	entries []entry

	// survived is the newest entry of the epoch that was asked for which has kept its sequence
	// in this one; zero if none is known.
	survived broadcast.ID
}

// readStream returns the state of the stream with up to count entries after an ID. It
// creates the stream if there is none.
func (j *Journal) readStream(ctx context.Context, client redis.UniversalClient, after broadcast.ID, count int) (streamState, error) {
	epoch := ""
	if !after.IsZero() {
		epoch = formatEpoch(after.Epoch())
	}
	reply, err := j.run(ctx, client, func() ([]any, error) {
		return j.eval(ctx, client, readScript, append(j.openArgs(), formatID(after), count, epoch))
	})
	if err == nil && len(reply.values) != 5 {
		err = j.wrap(fmt.Errorf("a script returned %q", reply.values))
	}
	if err != nil {
		return streamState{}, err
	}
	s := streamState{runID: reply.runID}
	oldest, newest := reply.values[0], reply.values[1]
	if s.newest, err = j.parseID(reply.epoch, newest); err != nil {
		return streamState{}, err
	}
	s.floor = s.newest
	if oldest != "" {
		id, err := j.parseID(reply.epoch, oldest)
		if err != nil {
			return streamState{}, err
		}
		s.floor = previous(id)
	}
	text, _ := reply.values[2].(string)
	s.link = parseLink(text)
	text, _ = reply.values[4].(string)
	if seq, _ := strconv.ParseUint(text, 10, 64); seq > 0 {
		s.survived = broadcast.MakeID(after.Epoch(), seq)
	}
	entries, _ := reply.values[3].([]any) // nil if count is 0
	for _, value := range entries {
		pair, _ := value.([]any)
		if len(pair) != 2 {
			return streamState{}, j.wrap(fmt.Errorf("an entry in the reply is %q", value))
		}
		id, err := j.parseID(reply.epoch, pair[0])
		if err != nil {
			return streamState{}, err
		}
		fields, _ := pair[1].([]any)
		s.entries = append(s.entries, decode(id, fields))
	}
	if j.learnStream(s) {
		j.logger().Warn("redisjournal: the stream keeps fewer entries than Journal.MaxEntries of this node: another node has a smaller MaxEntries,"+
			" which then holds for all, or somebody trims the stream; set the same value on all nodes",
			"key", j.key(), "kept", s.newest.Seq()-s.floor.Seq(), "max_entries", j.maxEntries())
	}
	return s, nil
}

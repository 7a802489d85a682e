package redisjournal

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
)

// streamState is what Redis reports of the stream at one moment.
type streamState struct {
	floor   broadcast.ID // just before the oldest entry that is kept; newest if none is
	newest  broadcast.ID // of the newest entry that there ever was
	entries []broadcast.Message
}

// readStream returns the state of the stream with up to count entries after an ID. It
// creates the stream if there is none.
func (j *Journal) readStream(ctx context.Context, client redis.UniversalClient, after broadcast.ID, count int) (streamState, error) {
	reply, err := j.run(ctx, client, readScript, formatID(after), count)
	if err != nil {
		return streamState{}, err
	}
	var s streamState
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
	entries, _ := reply.values[2].([]any) // nil if count is 0
	for _, e := range entries {
		entry, _ := e.([]any)
		if len(entry) != 2 {
			return streamState{}, j.wrap(fmt.Errorf("an entry in the reply is %q", e))
		}
		id, err := j.parseID(reply.epoch, entry[0])
		if err != nil {
			return streamState{}, err
		}
		fields, _ := entry[1].([]any)
		s.entries = append(s.entries, decode(id, fields))
	}
	return s, nil
}

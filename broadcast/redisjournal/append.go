package redisjournal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Append adds messages, all of them or none, and returns their IDs. While Redis is
// away it returns an error at once, or when the client's timeouts or ctx end.
func (j *Journal) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	if err := j.check(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
	}
	if len(ms) == 0 {
		return nil, nil
	}
	args := append(j.opening(), j.maxEntries())
	for _, m := range ms {
		args = append(args, m.Topic, m.Type, m.From, m.Data, m.Binary)
	}
	reply, err := j.run(ctx, j.Client, appendScript, args)
	if err != nil {
		if neverDone(err) {
			err = fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
		}
		return nil, err
	}
	epoch, err := j.opened(reply)
	if err != nil {
		return nil, err
	}
	ids := make([]broadcast.ID, 0, len(ms))
	for _, entry := range reply[2:] {
		id, err := j.id(epoch, entry)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// neverDone reports whether an error says that the script surely changed nothing: it
// was not sent, or the engine refused it. A script refuses before it adds anything.
func neverDone(err error) bool {
	var dial *net.OpError
	if errors.Is(err, redis.ErrClosed) || errors.Is(err, redis.ErrPoolTimeout) || errors.As(err, &dial) && dial.Op == "dial" {
		return true
	}
	// The engine's refusals begin with a word of their own (OOM, READONLY, LOADING, and
	// those of the scripts). A plain ERR may be a proxy's, which has given up waiting.
	var refusal redis.Error
	if !errors.As(err, &refusal) {
		return false
	}
	word, _, _ := strings.Cut(refusal.Error(), " ")
	return word != "ERR" && word == strings.ToUpper(word)
}

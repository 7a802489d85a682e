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

// Append adds all messages or none of them, and returns their IDs. While Redis is
// unreachable it returns an error: at once, at the client's timeouts, or when ctx ends.
func (j *Journal) Append(ctx context.Context, ms ...broadcast.Message) ([]broadcast.ID, error) {
	if err := j.check(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
	}
	if len(ms) == 0 {
		return nil, nil
	}
	reply, err := j.run(ctx, j.Client, appendScript, append([]any{j.maxEntries()}, encode(ms)...)...)
	if err != nil {
		if notAdded(err) {
			err = fmt.Errorf("%w: %w", broadcast.ErrNotPublished, err)
		}
		return nil, err
	}
	ids := make([]broadcast.ID, 0, len(ms))
	for _, entryID := range reply.values {
		id, err := j.parseID(reply.epoch, entryID)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// notAdded reports whether an error of the append script proves that nothing was added:
// the script was not sent, or the engine refused it. The script refuses before it adds
// the first entry.
func notAdded(err error) bool {
	if errors.Is(err, redis.ErrClosed) || errors.Is(err, redis.ErrPoolTimeout) {
		return true
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	// The engine's refusals, and those of the scripts, begin with a code such as OOM,
	// READONLY or LOADING. A plain ERR may come from a proxy that has given up waiting.
	var refusal redis.Error
	if !errors.As(err, &refusal) {
		return false
	}
	code, _, _ := strings.Cut(refusal.Error(), " ")
	return code != "ERR" && code == strings.ToUpper(code)
}

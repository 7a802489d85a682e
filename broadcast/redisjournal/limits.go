package redisjournal

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// limits is how large a message Redis accepts. Beyond that it closes the connection, mostly
// before its error has been read.
type limits struct {
	bytes int
	asked time.Time
}

const (
	// leastLimit is less than the least value of each of Redis's limits, with what a command
	// has beside a message.
	leastLimit = 1<<20 - 64<<10

	// defaultLimit is assumed if Redis does not say what its limit is.
	defaultLimit = 512 << 20

	// limitsAge is for how long the limits are not asked for again.
	limitsAge = 10 * time.Second
)

// sizeOf returns about how many bytes a message takes in a command.
func sizeOf(m *broadcast.Message) int {
	return len(m.Topic) + len(m.Type) + len(m.Key) + len(m.From) + len(m.Data)
}

// checkSize returns an error if a message is too large for Redis. It asks Redis only if that
// may be.
func (j *Journal) checkSize(ctx context.Context, m *broadcast.Message, size int) error {
	if size <= leastLimit {
		return nil
	}
	if limit := j.maxSize(ctx); size > limit {
		return j.wrap(fmt.Errorf("the message on topic %q has %d bytes, but Redis accepts at most %d: "+
			"raise its proto-max-bulk-len and client-query-buffer-limit, or publish a reference to the data", m.Topic, size, limit))
	}
	return nil
}

// maxSize returns how large a message may be.
func (j *Journal) maxSize(ctx context.Context) int {
	j.mu.Lock()
	known := j.limits
	j.mu.Unlock()
	if !known.asked.IsZero() && time.Since(known.asked) < limitsAge {
		return known.bytes
	}
	known = limits{bytes: defaultLimit, asked: time.Now()}
	for _, name := range []string{"proto-max-bulk-len", "client-query-buffer-limit"} {
		// The user may not be allowed to ask.
		values, err := j.Client.ConfigGet(ctx, name).Result()
		if err != nil {
			continue
		}
		if n, err := strconv.Atoi(values[name]); err == nil && n > 0 {
			known.bytes = min(known.bytes, n-(1<<20-leastLimit))
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.limits = known
	return known.bytes
}

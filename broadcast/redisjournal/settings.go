package redisjournal

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

const (
	defaultKey        = "fanfare"
	defaultMaxEntries = 100_000
)

// check is called first by every method. It returns an error that names the field whose
// value is impossible, or the error of ctx.
func (j *Journal) check(ctx context.Context) error {
	switch j.Client.(type) {
	case *redis.Client, *redis.ClusterClient:
	case nil:
		return errors.New("redisjournal: Journal.Client is nil: set it to a client")
	default:
		return fmt.Errorf("redisjournal: Journal.Client is a %T: it must be a *redis.Client or a *redis.ClusterClient", j.Client)
	}
	if j.MaxEntries < 0 {
		return fmt.Errorf("redisjournal: Journal.MaxEntries is %d: it must not be negative", j.MaxEntries)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("redisjournal: %w", err)
	}
	return nil
}

func (j *Journal) key() string { return cmp.Or(j.Key, defaultKey) }

func (j *Journal) maxEntries() int64 { return cmp.Or(j.MaxEntries, defaultMaxEntries) }

// wrap adds the package and the key to an error.
func (j *Journal) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("redisjournal: stream %q: %w", j.key(), err)
}

package redisjournal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
)

const (
	readEntries = 128         // how many entries are read at once
	blockTime   = time.Second // how long Redis waits for the next entry
)

// Tail reads over a connection of its own, and ends with an error when Redis is
// unreachable. Where nothing is appended, it detects within a second that the stream was
// trimmed, deleted or created again.
//
// After an ID of another epoch it yields a gap just before the oldest entry that is kept,
// then all that is kept. After an ID that the stream has not reached it yields nothing
// until the stream has passed that ID.
func (j *Journal) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return func(yield func(broadcast.Message, error) bool) {
		t := &tail{journal: j, last: after, yield: yield}
		err := t.run(ctx)
		switch {
		case errors.Is(err, errStopped):
		case ctx.Err() != nil:
			yield(broadcast.Message{}, fmt.Errorf("redisjournal: %w", ctx.Err()))
		default:
			yield(broadcast.Message{}, err)
		}
	}
}

// tail is a running Tail.
type tail struct {
	journal *Journal
	client  *redis.Client // of one connection
	yield   func(broadcast.Message, error) bool

	last broadcast.ID // the last one yielded
}

// errStopped says that the caller has stopped the iteration. Tail does not yield it.
var errStopped = errors.New("redisjournal: the iteration was stopped")

// run yields entries until something fails or the caller stops.
func (t *tail) run(ctx context.Context) error {
	if err := t.journal.check(ctx); err != nil {
		return err
	}
	client, err := t.journal.connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	defer context.AfterFunc(ctx, func() { client.Close() })()
	t.client = client
	for {
		s, err := t.journal.readStream(ctx, client, t.last, readEntries)
		if err != nil {
			return err
		}
		if err := t.yieldEntries(ctx, s); err != nil {
			return err
		}
		if t.last.Seq() >= s.newest.Seq() {
			if err := t.wait(ctx, s.newest); err != nil {
				return err
			}
		}
	}
}

// yieldEntries yields what was read, with a gap where something is missing.
func (t *tail) yieldEntries(ctx context.Context, s streamState) error {
	switch {
	case t.last.IsZero():
		t.last = s.floor
	case t.last.Epoch() != s.newest.Epoch():
		// The entries were read after the sequence of another epoch: they are read again.
		s.entries = nil
		if !t.yieldGap(s.floor) {
			return errStopped
		}
	case len(s.entries) == 0 && t.last.Seq() < s.newest.Seq():
		if !t.yieldGap(s.newest) {
			return errStopped
		}
	}
	for _, m := range s.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if m.ID.Seq() != t.last.Seq()+1 && !t.yieldGap(previous(m.ID)) {
			return errStopped
		}
		t.last = m.ID
		if !t.yield(m, nil) {
			return errStopped
		}
	}
	return nil
}

// yieldGap yields the loss of everything up to an ID.
func (t *tail) yieldGap(id broadcast.ID) bool {
	t.last = id
	return t.yield(broadcast.Message{ID: id}, &broadcast.GapError{ID: id})
}

// wait returns once there is an entry after the newest, or after blockTime. It does not
// return that entry, which may belong to another stream by now.
func (t *tail) wait(ctx context.Context, newest broadcast.ID) error {
	err := t.client.XRead(ctx, &redis.XReadArgs{
		Streams: []string{t.journal.key(), formatID(newest)}, Count: 1, Block: blockTime,
	}).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return t.journal.wrap(err)
}

// connect returns a client with a single connection to where Client finds the stream. It
// copies the options of Client that say how to connect, and none of its pool.
func (j *Journal) connect(ctx context.Context) (*redis.Client, error) {
	client, _ := j.Client.(*redis.Client)
	if cluster, ok := j.Client.(*redis.ClusterClient); ok {
		cluster.ReloadState(ctx) // for the next Tail, if this one fails because the stream has moved
		var err error
		if client, err = cluster.MasterForKey(ctx, j.key()); err != nil {
			return nil, j.wrap(err)
		}
	}
	from := client.Options()
	return redis.NewClient(&redis.Options{
		Network:                      from.Network,
		Addr:                         from.Addr,
		ClientName:                   from.ClientName,
		Dialer:                       from.Dialer,
		OnConnect:                    from.OnConnect,
		Protocol:                     from.Protocol,
		Username:                     from.Username,
		Password:                     from.Password,
		CredentialsProvider:          from.CredentialsProvider,
		CredentialsProviderContext:   from.CredentialsProviderContext,
		StreamingCredentialsProvider: from.StreamingCredentialsProvider,
		DB:                           from.DB,
		DialTimeout:                  from.DialTimeout,
		ReadTimeout:                  from.ReadTimeout,
		WriteTimeout:                 from.WriteTimeout,
		TLSConfig:                    from.TLSConfig,
		DisableIdentity:              from.DisableIdentity,
		IdentitySuffix:               from.IdentitySuffix,
		ContextTimeoutEnabled:        true,
		DialerRetries:                1,
		MaxRetries:                   -1,
		PoolSize:                     1,
		PipelinePoolSize:             -1, // no further connection for pipelines and transactions
	}), nil
}

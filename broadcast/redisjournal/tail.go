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
	batch = 128         // entries read at once
	nap   = time.Second // how long Redis is asked to wait for the next entry
)

// Tail yields what is kept behind after, then what comes, until ctx ends or Redis is
// away. It has a connection of its own, which ends with it. Where nothing comes, it
// learns within a second what has become of the stream (trimmed, deleted, made anew).
func (j *Journal) Tail(ctx context.Context, after broadcast.ID) iter.Seq2[broadcast.Message, error] {
	return func(yield func(broadcast.Message, error) bool) {
		err := j.tail(ctx, after, yield)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			yield(broadcast.Message{}, fmt.Errorf("redisjournal: %w", ctx.Err()))
		default:
			yield(broadcast.Message{}, err)
		}
	}
}

// tail returns an error, or nil where the consumer has stopped.
func (j *Journal) tail(ctx context.Context, after broadcast.ID, yield func(broadcast.Message, error) bool) error {
	if err := j.check(ctx); err != nil {
		return err
	}
	client, err := j.connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	defer context.AfterFunc(ctx, func() { client.Close() })()
	for {
		v, err := j.look(ctx, client, after, batch)
		switch {
		case err != nil:
			return err
		case after.IsZero():
			after = v.floor
		case after.Epoch() != v.newest.Epoch():
			after, v.entries = v.floor, nil // those are behind a place in another stream
			if !yield(gap(after)) {
				return nil
			}
		case len(v.entries) == 0 && after.Seq() < v.newest.Seq():
			after = v.newest
			if !yield(gap(after)) {
				return nil
			}
		}
		for _, m := range v.entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if m.ID.Seq() != after.Seq()+1 && !yield(gap(before(m.ID))) {
				return nil
			}
			after = m.ID
			if !yield(m, nil) {
				return nil
			}
		}
		if after.Seq() >= v.newest.Seq() {
			if err := j.wait(ctx, client, v.newest); err != nil {
				return err
			}
		}
	}
}

func gap(id broadcast.ID) (broadcast.Message, error) {
	return broadcast.Message{ID: id}, &broadcast.GapError{ID: id}
}

// wait returns once there is an entry behind the newest, or after a nap. The entry it
// leaves to read: it may be another stream's by now.
func (j *Journal) wait(ctx context.Context, client *redis.Client, newest broadcast.ID) error {
	err := client.XRead(ctx, &redis.XReadArgs{Streams: []string{j.key(), entryID(newest)}, Count: 1, Block: nap}).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return j.explain(err)
}

// connect returns a client of one connection to where Client finds the stream. Of
// Client's options it has those that say how to connect, and none of a pool's.
func (j *Journal) connect(ctx context.Context) (*redis.Client, error) {
	client, _ := j.Client.(*redis.Client)
	if cluster, ok := j.Client.(*redis.ClusterClient); ok {
		cluster.ReloadState(ctx) // for the next time, if this Tail ends because the stream has moved
		var err error
		if client, err = cluster.MasterForKey(ctx, j.key()); err != nil {
			return nil, j.explain(err)
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
		PipelinePoolSize:             -1, // else another connection, for transactions
	}), nil
}

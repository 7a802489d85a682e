package redisjournal

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// answerTime is how long Redis may take for an answer if the client sets no limit.
const answerTime = 3 * time.Second

var errConnectionLost = errors.New("redisjournal: the connection of a tail was lost")

// connect returns a client with a single connection to where Client finds the stream. It
// copies the options of Client that say how to connect, and none of its pool. The connection
// is never made anew, since a new one may lead to another Redis.
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
	var connected atomic.Bool
	return redis.NewClient(&redis.Options{
		Network:    from.Network,
		Addr:       from.Addr,
		ClientName: from.ClientName,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if connected.Load() {
				return nil, errConnectionLost
			}
			conn, err := from.Dialer(ctx, network, addr)
			connected.Store(err == nil)
			return conn, err
		},
		OnConnect:                    from.OnConnect,
		Protocol:                     from.Protocol,
		Username:                     from.Username,
		Password:                     from.Password,
		CredentialsProvider:          from.CredentialsProvider,
		CredentialsProviderContext:   from.CredentialsProviderContext,
		StreamingCredentialsProvider: from.StreamingCredentialsProvider,
		DB:                           from.DB,
		DialTimeout:                  from.DialTimeout,
		ReadTimeout:                  lookInterval + cmp.Or(max(from.ReadTimeout, 0), answerTime),
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

// sentinelAddress is the address in the options of a client that uses Sentinel.
const sentinelAddress = "FailoverClient"

// findMaster lets a client that uses Sentinel ask it for the master, which it does only when
// it connects. If there is another one, the client closes its connections to the old one. The
// client also listens for switches, but does not hear of those that its Sentinel does not
// announce, or announces while the client has no connection to it.
func (j *Journal) findMaster(ctx context.Context) {
	client, ok := j.Client.(*redis.Client)
	if !ok || client.Options().Addr != sentinelAddress {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	from := client.Options()
	if conn, err := from.Dialer(ctx, cmp.Or(from.Network, "tcp"), from.Addr); err == nil {
		conn.Close()
	}
}

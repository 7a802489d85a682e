// Package redisjournal provides a [broadcast.Journal] on a stream of Redis 7 or Valkey:
// the log that the Hubs of several servers share.
//
//	journal := &redisjournal.Journal{Client: redis.NewClient(&redis.Options{Addr: "localhost:6379"})}
//	hub := &broadcast.Hub{Journal: journal}
//	go hub.Run(ctx)
//
// # Entries
//
// The log is a stream under one key. Each message is an entry with the fields topic,
// type, from, data and binary. Its ID in Redis is "0-n", where n is the sequence of the
// message's [broadcast.ID]; Redis increments it by one for each entry.
//
// # Epochs
//
// Redis can lose what it has acknowledged. By default a crash loses everything since the
// last snapshot, and a failover what the replica had not received yet. Afterwards Redis
// gives the same entry IDs to other entries.
//
// The stream therefore records to which history of Redis its epoch belongs: its run_id
// and its master_replid2. They change with a restart, with a failover, and when a slot of
// a cluster moves. Every call compares them with the current ones, in the same script
// that reads or appends. If they differ, the stream gets a new epoch, which is a gap for
// every client, because nobody knows what was lost. A stream that does not exist any more
// (DEL, FLUSHALL, a restart without persistence) is created again, with a new epoch too.
// Both are logged. So no ID is given twice.
//
// The epoch and the history are the name of a consumer group of the stream, so that they
// are stored and lost together with it. Nobody reads in that group: its lag means nothing.
//
// If Redis loses nothing that it has acknowledged (appendfsync always, and no failover to
// a replica that lags behind), set [Journal.Durable]. Then only a stream that does not
// exist any more is a gap.
//
// # Permissions
//
// Redis must be a master that accepts writes, for Tail and Bounds too. The user needs the
// commands EVAL, EVALSHA, INFO, TYPE, XADD, XGROUP, XINFO, XRANGE and XREAD. With an
// eviction policy of allkeys Redis may evict the whole stream, which is a gap for every
// client.
//
// The key belongs to the Journal. If others add an entry with an ID of "0-*", its ID
// counts, but it is not a message unless it has a field topic. If they add one with
// another ID, as XADD gives for "*", no further entry can have an ID: every call then
// returns an error until the key is deleted. Entries that others delete or trim are a
// gap.
package redisjournal

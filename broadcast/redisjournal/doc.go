// Package redisjournal is a [broadcast.Journal] on a stream of Redis 7 or Valkey:
// what several servers share, so that a client can move between them with its ID.
//
//	journal := &redisjournal.Journal{Client: redis.NewClient(&redis.Options{Addr: "localhost:6379"})}
//	hub := &broadcast.Hub{Journal: journal}
//	go hub.Run(ctx)
//
// # What is in Redis
//
// One key, a stream. A message is an entry with the fields topic, type, from, data
// and binary. Its ID is "0-n", where n is the sequence of the message's
// [broadcast.ID]: Redis lets it rise by one.
//
// The epoch is the name of a consumer group of the stream, together with what Redis
// calls its own history. So they live and die with the stream, and nothing can take one
// and leave the other. Nobody reads in that group: its lag means nothing.
//
// # No ID is given twice
//
// Redis may lose what it acknowledged: by default a crash takes all since the last
// snapshot, and a failover what the replica had not got yet. It then gives the same
// entry IDs to other entries. Whatever a Journal does therefore begins, in the same
// script, by comparing the history that Redis has now (its run_id and master_replid2)
// with the one in the stream. They differ after a restart, after a failover, and where
// a slot of a cluster has moved. The stream then gets a new epoch, which is a gap for
// everybody, because nobody knows what was lost. A stream that is gone (DEL, FLUSHALL,
// a restart without persistence) is made anew, with a new epoch too. Both are logged.
//
// An operator whose engine loses nothing that it acknowledged (appendfsync always,
// no failover to a replica that lags) says so with [Journal.Durable]: then only a
// stream that is gone is a gap.
//
// # What Redis must allow
//
// Redis must be a master that may be written to, also for a Tail and for Bounds. The
// user needs the commands EVAL, EVALSHA, INFO, TYPE, XADD, XGROUP, XINFO, XRANGE and
// XREAD. Under an eviction policy of allkeys Redis may evict the whole stream: a gap
// for everybody.
//
// The key belongs to the Journal. An entry that others add under an ID of "0-*" is no
// message (unless it has a field topic), but counts. One under another ID, as XADD with
// "*" gives it, ends the numbering: all calls return an error until the key is deleted.
// What others delete or trim is a gap.
package redisjournal

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
// type, key, from, data, binary, removed, first and end by name; those that are empty are left out, and unknown ones are
// ignored, so that nodes of several versions can share a stream. Its ID in Redis is "0-n",
// where n is the sequence of the message's [broadcast.ID]; Redis increments it by one for
// each entry.
//
// A further field, link, has a random tag of the Append that added the entry; the first
// entry of an Append also has the tag of the entry before it, and the epoch. A tail reads
// with XREAD alone as long as each entry continues the one before by its link. Once a second,
// and whenever an entry does not, a script verifies the stream and reads on. So a message costs
// Redis one script, and one XREAD for each node. A tail that is behind reads up to 4,096
// entries at once.
//
// # Epochs
//
// Redis can lose what it has acknowledged. By default a crash loses everything since the
// last snapshot, and a failover what the replica had not received yet. Afterwards Redis
// gives the same entry IDs to other entries.
//
// The stream therefore records to which history of Redis its epoch belongs: its run_id
// and its master_replid2. They change with a restart, with a failover, and when a slot of
// a cluster moves. If they differ from the current ones, the stream gets a new epoch, which
// is a gap for every client, because nobody knows what was lost. A stream that does not exist
// any more (DEL, FLUSHALL, a restart without persistence) is created again, with a new epoch
// too. Each Append verifies the history in the script that adds the entries, except where the
// same Redis process has verified it for the same node within the last second.
//
// Each node also compares the stream with what it has seen of it: the highest sequence, and
// the tag of the entry that it has read last. A stream that went back (RESTORE or COPY of an
// older one, XSETID) gets a new epoch, and so does one that comes back after another has had
// its key (RENAME there and back).
//
// What no running node has seen, the witness shows: a string under a key beside the stream's,
// "{fanfare}:witness" for the default one. Each script that adds entries records in it how far
// the stream goes, in the same moment. So an older stream that is put in place while no node
// runs gets a new epoch too. So does a stream whose witness was deleted or evicted alone, and
// one that is renamed to the key of another Journal, unless Durable is set. A stream of an
// earlier version of this package has no witness, and gets one without a new epoch; if a node of
// such a version begins an epoch later, the next node of this one begins another. If the user
// may not use that key, a warning is logged, and nodes do without the witness. Then messages of
// which no running node knows can be lost without a gap, and their IDs are given twice. A copy
// of the stream that is put in place together with the witness of that time is not noticed
// either: restore the stream alone.
//
// Entries that are still there keep their sequences in the new epoch. The stream records which
// epoch was before and how far it went, so that clients of that epoch go on after what they have
// had. They get all that is kept where the stream was created again, where two epochs have begun
// since, or where others may have added entries in the place of those that were lost.
//
// New epochs are logged. The epoch and the history are the name of a consumer group of the
// stream, so that they are stored and lost together with it. Another group,
// "fanfare:witnessed", says that there is a witness. Nobody reads in these groups: their lag
// means nothing.
//
// If Redis loses nothing that it has acknowledged (appendfsync always, and no failover to
// a replica that lags behind), set [Journal.Durable]. Then only a stream that does not
// exist any more is a gap, or one that lacks what a node or the witness has seen of it.
//
// # Switch of master
//
// Every second a tail verifies that Client still reaches the Redis that the tail reads from,
// and at once when an Append has reached another one. If not, the tail ends, and its Hub opens
// it again where Client leads to. A client that uses Sentinel is made to ask it for the master
// every three seconds, since it does not hear of a switch that is not announced to it. A node
// that reaches only a master which Sentinel has replaced, and no Sentinel that knows, stays
// there, and what is acknowledged to it is lost: set min-replicas-to-write, so that such a
// master refuses messages.
//
// # Permissions
//
// Redis must be a master that accepts writes, for Tail and Bounds too. The user needs the
// commands EVAL, EVALSHA, INFO, TYPE, XADD, XGROUP, XINFO, XRANGE, XREAD and XREVRANGE, and GET
// and SET for the witness. An ACL needs the patterns of both keys: "~fanfare ~{fanfare}:witness".
// If Key has a hash tag, as "{a}log" has, the key of the witness is Key and ":witness", else
// "{", Key and "}:witness". Without XREVRANGE, or without the witness and XPENDING, each Append
// takes two scripts. With CONFIG GET too,
// messages of more than 1 MiB are compared with proto-max-bulk-len and
// client-query-buffer-limit before they are sent; without it they are compared with 512 MiB.
// With an eviction policy of allkeys Redis may evict the whole stream, or its witness, which is a
// gap for every client.
//
// Both keys belong to the Journal. If others add an entry with an ID of "0-*", its ID
// counts, but it is not a message unless it has a field topic. If they add one with
// another ID, as XADD gives for "*", no further entry can have an ID: every call then
// returns an error until the key is deleted. Entries that others delete or trim are a
// gap.
package redisjournal

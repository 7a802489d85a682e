// Package natsjournal provides a [broadcast.Journal] on a stream of NATS JetStream:
// the log that the Hubs of several servers share.
//
//	conn, err := natsjournal.Connect("nats://nats:4222")
//	hub := &broadcast.Hub{Journal: &natsjournal.Journal{Conn: conn, Replicas: 3}}
//	go hub.Run(ctx)
//
// The first node creates the stream. The others use it as it is, and log once where its
// limits are not those of their own fields. An operator may change its limits, replicas,
// description, metadata and compression while nodes follow it. Settings with which entries
// would be lost, refused or changed make it unusable, for Append too, until they are changed
// back: another retention policy, "discard new", no_ack, more subjects, a transform, sources,
// counters, sealing.
//
// # Epochs
//
// The stream has one subject: [Journal.Subject], a dot and a random number. That
// number and the creation time of the stream make up the epoch. A stream can lose
// entries, for example when a backup is restored or when a server loses what it had
// not yet written to disk. The node that detects the loss replaces the number, which
// begins a new epoch. Nodes that have not noticed still publish to the old subject;
// JetStream refuses that, because no stream has the old subject any more. So no ID
// is given twice.
//
// A node detects a loss by comparing the stream with what the node itself has seen:
// either the stream ends earlier, or the newest entry that the node has read now has
// another timestamp. Of nodes that detect it at the same time, one claims that it begins the epoch,
// by creating the consumer "fanfare-claim-<epoch>", and the others take that epoch. The claim
// expires after five seconds.
//
// JetStream keeps its numbering in a new epoch. A Tail looks for the newest entry of the old epoch
// that this node has read and that the stream still has, and yields a [broadcast.EpochError] with
// it, so that clients get none of the survivors a second time.
//
// # Nodes that start
//
// A node that starts has seen nothing. Unless [Journal.Durable] is set, it goes on in the
// stream's epoch only if somebody attests that nothing is lost:
//
//   - Another node follows the stream, and would have noticed. Each Tail has a consumer whose
//     name begins with "fanfare_". The node lists these, and counts those that wait for
//     entries or are being sent some. The consumer of a node that has died does neither.
//   - All nodes have closed cleanly. When the context of a node's last Tail ends, as at the
//     end of Hub.Run, and no other node follows the stream, the node leaves the durable
//     consumer "fanfare-witness", whose metadata holds the epoch and the newest sequence.
//     Nobody reads from it. It counts unless the stream ends before that sequence: entries
//     that follow were still on their way. An Append that ends later adds its entries to it
//     before it returns. The next node that uses the stream deletes it. So close the connection
//     after Run and the last Publish have returned.
//   - Another node has created the stream or begun a new epoch since this one started.
//
// A node that finds none of these looks for three to four seconds, since nodes that start at
// once or reconnect may still come, and for up to six if the stream or its epoch is only just as
// old, whose node may still come to follow it. Then it begins a new epoch, which every client
// gets as a gap. So the restart of a lone node that has crashed is a gap, and one that takes some seconds
// longer. A rolling deploy, a crash of one of several nodes, and a restart of the engine under
// running nodes are not.
//
// What cannot be detected is a loss that takes the witness along: a backup that was made while
// all nodes were closed, restored when all of them are closed again or have crashed. After
// restoring a backup, delete the consumer "fanfare-witness" before starting nodes.
//
// # Entries
//
// Each message is one entry. Its Data is the payload. Its other fields are
// headers that begin with "Fanfare-", where they are set; texts are escaped as in a URL, because
// a header cannot contain line breaks or leading spaces. Headers that a node does not know
// are ignored, so that nodes of several versions can share a stream. NATS does not interpret
// the topic. An entry without these headers is not a message, but its ID counts.
//
// # Permissions
//
// A node must be allowed to publish to "<Subject>.*", to subscribe to its inboxes, and to use
// the JetStream API to create, inspect and update the stream, to create, list, inspect, pull
// from and delete its consumers, and to get single messages.
package natsjournal

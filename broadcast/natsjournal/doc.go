// Package natsjournal provides a [broadcast.Journal] on a stream of NATS JetStream:
// the log that the Hubs of several servers share.
//
//	conn, err := nats.Connect("nats://nats:4222", nats.MaxReconnects(-1))
//	hub := &broadcast.Hub{Journal: &natsjournal.Journal{Conn: conn, Replicas: 3}}
//	go hub.Run(ctx)
//
// The first node creates the stream. The other nodes check that its settings match
// their own. A Journal changes nothing of an existing stream except its subject.
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
// another timestamp. The loss of entries that no running node has seen cannot be
// detected.
//
// # Entries
//
// Each message is one entry. Its Data is the payload. Its Topic, Type, From and Binary
// are headers that begin with "Fanfare-"; their values are escaped as in a URL, because
// a header cannot contain line breaks or leading spaces. NATS does not interpret the
// topic. An entry without these headers is not a message, but its ID counts.
//
// # Permissions
//
// A node must be allowed to publish to "<Subject>.*" and to use the JetStream API to
// create, inspect and update the stream, to create, pull from and delete its consumers,
// and to get single messages.
package natsjournal

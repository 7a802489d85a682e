// Package natsjournal keeps the log that several Hubs share in a stream of NATS
// JetStream:
//
//	conn, err := nats.Connect("nats://nats:4222", nats.MaxReconnects(-1))
//	hub := &broadcast.Hub{Journal: &natsjournal.Journal{Conn: conn, Replicas: 3}}
//	go hub.Run(ctx)
//
// The first node makes the stream; the others check that its settings are their
// own. A stream that is there already is never changed, but for its subject.
//
// # Epochs
//
// The stream has one subject: [Journal.Subject], a dot, and a number that is drawn
// when the stream is made. That number and the time of the stream's making are
// the epoch. A node that finds that the stream has lost what it once had (a
// backup was restored, a server lost what it had not written) replaces the number,
// and so begins another epoch. From then on the engine itself refuses what a node
// would add that has not noticed yet, as there is no stream with the old subject:
// no ID is given twice.
//
// A node notices by what it has seen itself: the stream ends before it, or the
// newest entry that it followed has another time. Nobody can notice the loss of
// what no running node has seen.
//
// # What a message becomes
//
// Its Data is the payload. Its Topic, Type, From and Binary are headers that begin
// with "Fanfare-", escaped as in a URL, because a header can hold neither line
// breaks nor spaces at its beginning. What stands in a topic means nothing to NATS.
// Entries without these headers are nobody's messages: they count by their ID.
//
// # Rights
//
// A node needs to publish to the Subject with anything behind its dot, and to use
// the parts of the JetStream API that make, look at and change the stream, make,
// read and delete its consumers, and read single messages.
package natsjournal

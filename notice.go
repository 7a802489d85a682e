package fanfare

import (
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Notice is an event of the stream itself, sent between the messages of its topics. A
// handler's Notice hook encodes it.
type Notice struct {
	// Kind is what the notice means. Kinds may be added: a hook does not send those
	// that it does not know.
	Kind NoticeKind

	// ID is the client's position after the notice. An event stream sends it as the
	// id of the event.
	ID broadcast.ID

	// Topics are, for Gap, the topics that have lost messages, and for Begin those that
	// begin, or nil for all topics of the client; for Topics, the topics that the client now has, or nil if Status is
	// set: it has those that it had.
	Topics []string

	// Partial are, for Begin, the topics whose beginning may lack something; see
	// [broadcast.BeginError].
	Partial []string

	// Heartbeat is, for Ready, and for a Gap or a Begin that is the first notice of its
	// stream, after which time without any bytes the client gets a heartbeat: a stream
	// that is silent for much longer is dead. If zero, there are no heartbeats.
	Heartbeat time.Duration

	// Expires is, for Renewed, Ready, and a Gap or a Begin that is the first notice of its
	// stream, after which time the stream ends unless its client sends a fresh token. If zero, it
	// does not expire within 2,147,483 s (24 days), which is how far setTimeout of a browser
	// reaches, or has no Grant.Renew.
	Expires time.Duration

	// Status is, for Topics and Renewed, the HTTP status that says why the client did not get the
	// topics that it asked for, or why its token was refused. If zero, it got them, or the token
	// counts.
	Status int
}

// NoticeKind is the kind of a [Notice].
type NoticeKind string

// The kinds of a [Notice].
const (
	Ready    NoticeKind = "ready"    // the stream begins after ID
	Gap      NoticeKind = "gap"      // messages were lost, and the stream continues after ID
	Begin    NoticeKind = "begin"    // what the client has of Topics is void, and the messages that follow are their beginning
	End      NoticeKind = "end"      // all topics have ended at ID, and so does the stream
	Position NoticeKind = "position" // all messages up to ID have been sent
	Topics   NoticeKind = "topics"   // after ID the client gets the messages of Topics
	Renewed  NoticeKind = "renewed"  // the answer to a token: the stream goes on for Expires
)

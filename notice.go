package fanfare

import "github.com/fanfare-go/fanfare/broadcast"

// Notice is what a stream says itself, beside the messages of its topics. A
// handler's Notice hook turns it into what goes over the wire.
type Notice struct {
	// Kind says what the notice means. More kinds may come: a hook leaves out those
	// that it does not know.
	Kind NoticeKind

	// ID is the client's position once it has the notice. An event stream sends it
	// as the id of the event.
	ID broadcast.ID

	// Topics are the topics that lost messages, for a Gap (nil: all of the client's);
	// or the topics that the client has, for Topics.
	Topics []string

	// Status says, for Topics, why the client did not get the topics that it asked
	// for. If zero, it did.
	Status int
}

// NoticeKind is the kind of a [Notice].
type NoticeKind string

// The kinds of a [Notice].
const (
	Ready    NoticeKind = "ready"    // the stream begins after ID
	Gap      NoticeKind = "gap"      // messages were lost; the stream goes on after ID
	Position NoticeKind = "position" // everything up to ID has been sent
	Topics   NoticeKind = "topics"   // from ID on the client has these Topics
)

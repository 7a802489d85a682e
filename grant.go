package fanfare

import (
	"context"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Grant is what a client may receive on one stream. A handler's Grant hook returns a
// new one each time a client connects, also when it resumes. A client with a topic can
// read all kept messages of that topic.
//
// The functions of a Grant are called for that stream only, one at a time.
type Grant struct {
	// Topics are the exact names of the client's topics, up to 1,000. Without a Change
	// there must be at least one: else the client is refused with 403. With it the client
	// may be in no topic yet: its stream has its positions and heartbeats until the
	// client asks for topics, or reconnects.
	Topics []string

	// Filter reports whether the client gets a message. If nil, it gets all
	// messages. If Filter panics, the client does not get the message.
	Filter func(*broadcast.Message) bool

	// Last is how many of the newest kept messages of each topic are sent first to
	// a client that does not resume. If zero, none are sent. It must not be negative.
	Last int

	// Snapshot returns the state that a client needs to make sense of the messages
	// that follow. It is called after the client has been subscribed, unless the
	// client resumes, and again after a gap, from where the stream then goes on: kept
	// messages that are older do not follow it. The messages that it returns need a Topic
	// and no ID. They are sent before the position: a client whose connection breaks
	// among them gets a new snapshot when it comes back. The context ends when the
	// stream is asked to end, and when Snapshot returns. If nil, there is no snapshot.
	Snapshot func(context.Context) ([]broadcast.Message, error)

	// Change is called when a client asks for other topics on its open WebSocket;
	// topics is the whole new set, of at most 1,000. The Grant that it returns replaces
	// Topics, Filter and Snapshot for the rest of the stream, and Change itself if it
	// has one; only then may it have no Topics. Snapshot is then called for the state
	// of the new topics. An error refuses the change: the client keeps its topics, and
	// is sent the Status of a *Refusal, or 500 for any other error. A client that asks
	// more often than five times a second, in bursts of ten, waits, and only its latest
	// request counts. If nil, a request for other topics is refused with 403.
	Change func(topics []string) (*Grant, error)

	// Expires is when the stream ends, for example when the client's token expires.
	// If zero, the stream does not expire.
	Expires time.Time
}

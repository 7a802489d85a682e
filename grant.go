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
	// messages. If Filter panics, the client does not get the message. Of a Key it lets all
	// values pass or none: it looks at Topic and Key, not at From or Data. A client that gets
	// some of them would show a value that was replaced long ago.
	Filter func(*broadcast.Message) bool

	// Last is how many of the newest kept messages of each topic are sent first to
	// a client that does not resume: events and values of Keys together. If zero, none are
	// sent. It must not be negative.
	Last int

	// Beginning lets a client that does not resume begin with all that its topics keep: the
	// events, from the newest with First on, then the value of each Key. A Begin notice
	// precedes them. Where the client has lost messages it gets no gap: all its topics begin
	// again. Last has no effect then. See broadcast.SubscribeOptions.
	Beginning bool

	// Snapshot returns the state that a client needs to make sense of the messages
	// that follow, in all its topics. It is called after the client has been subscribed,
	// unless the client resumes, and in place of a gap, from where the stream then goes on:
	// kept messages that are older do not follow it. A Begin notice of all topics precedes the
	// messages that it returns, which need a Topic and no ID. They are sent before the
	// position: a client whose connection breaks among them gets a new snapshot when it comes
	// back. A stream for which it has been called three times, because the client lost
	// something each time before it had caught up, ends in place of a fourth. With Beginning
	// it is called only where the beginning is partial, and takes its place. The context ends
	// when the stream is asked to end, and when Snapshot returns. If nil, there is no snapshot.
	Snapshot func(context.Context) ([]broadcast.Message, error)

	// Change is called when a client asks for other topics on its open WebSocket;
	// topics is the whole new set, of at most 1,000. The Grant that it returns replaces
	// Topics, Filter and Snapshot for the rest of the stream, and Change itself if it
	// has one; only then may it have no Topics. Snapshot is then called for the state
	// of all the topics that the client has now. With Beginning, which it does not replace,
	// the topics begin that the client did not have. The answer follows. An error refuses the change: the client keeps its topics, and
	// is sent the Status of a *Refusal, or 500 for any other error. A client that asks
	// more often than five times a second, in bursts of ten, waits, and only its latest
	// request counts. If nil, a request for other topics is refused with 403.
	Change func(topics []string) (*Grant, error)

	// Expires is when the stream ends, for example when the client's token expires: a WebSocket
	// with 3000 and "expired". The client comes back, and Grant is called again. If zero, the
	// stream does not expire.
	Expires time.Time

	// Renew is called when a client sends a fresh token on its open WebSocket, as
	// {"token":"..."}; it returns the new Expires, and the client gets a Renewed notice. It must
	// check that the token is one of the same user: the stream keeps its topics. An error
	// refuses the token: the stream keeps its Expires, and the client is sent the Status of a
	// *Refusal, or 500 for any other error. A client that sends tokens more often than five times a second,
	// in bursts of ten, waits, and only its latest counts. If nil, such a message is one like any
	// other. An event stream cannot be sent a token: its client comes back
	// when it expires, or before, since Renew also lets it know when that is.
	Renew func(token string) (expires time.Time, err error)
}

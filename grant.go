package fanfare

import (
	"context"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// Grant is what one client gets from one stream. A handler's Grant hook returns a
// new one each time a client connects, also when it resumes. A client that may
// subscribe to a topic may read everything that is kept of it.
//
// The functions of a Grant are called for that stream alone, one at a time.
type Grant struct {
	// Topics are the exact names of the client's topics, 1 to 1,000.
	Topics []string

	// Filter reports whether the client gets a message. If nil, it gets all of
	// them. A panic in Filter drops the message for this client.
	Filter func(*broadcast.Message) bool

	// Last is how many of the newest kept messages of each topic are sent first to
	// a client that does not resume. If zero, none; it must not be negative.
	Last int

	// Snapshot returns the state that a client needs before it can make sense of
	// the messages that follow. It is called once the client is subscribed, unless
	// it resumes, and again after a gap. The messages it returns need a Topic and no
	// ID. They are sent before the position, so that a client whose connection is
	// cut among them gets them again. Its context ends when it returns, and as soon
	// as the stream is asked to end. If nil, there is none.
	Snapshot func(context.Context) ([]broadcast.Message, error)

	// Change is called when a client asks for other topics on its open WebSocket;
	// topics is the whole new set. The Grant that it returns replaces Topics, Filter
	// and Snapshot for the rest of the stream, and Change itself if it has one.
	// Snapshot is then called for the state of the new topics. An error refuses the
	// change, and the client keeps what it has: it is sent the status of a *Refusal,
	// 500 for any other error. If nil, the topics of a stream do not change.
	Change func(topics []string) (*Grant, error)

	// Expires is when the stream ends, for example with the token that opened it.
	// If zero, never.
	Expires time.Time
}

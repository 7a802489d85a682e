package broadcast

import (
	"context"
	"fmt"
	"time"
)

// Grant is what one client gets from one stream. A handler's Grant hook makes a
// new one each time a client connects, when it resumes as well: whoever may
// subscribe to a topic may read all that is kept of it.
//
// Its functions serve that stream alone and are called one at a time.
type Grant struct {
	// Topics are the exact names of what the client gets, 1 to 1,000.
	Topics []string

	// Filter says whether the client gets a message. If nil, it gets all. A
	// panic in it drops that message.
	Filter func(*Message) bool

	// Last is how many of the newest kept messages of each topic a client
	// begins with that does not resume. If zero, none.
	Last int

	// Snapshot returns the state that a client needs before it can make sense
	// of the messages that follow. It is called for a client that does not
	// resume, after its subscription stands, and again after a gap; what it
	// returns goes out before the position is told, so that a client cut in the
	// middle gets it again. Its context ends when it returns, or as soon as the
	// stream is to end. Its messages need a Topic and no ID. If nil, there is
	// none.
	Snapshot func(context.Context) ([]Message, error)

	// Change decides what the client gets that asks for other topics on its open
	// WebSocket: topics are all that it wants from then on. What it returns is for
	// the rest of the stream: its Topics, Filter, Snapshot and, if it has one,
	// Change. An error refuses, and the client keeps what it has: a *Refusal with
	// its status, any other with 500. A Snapshot is called again, for the state of
	// what is new. If nil, topics are what they are for as long as the stream.
	Change func(topics []string) (*Grant, error)

	// Expires is when the stream ends, for example with the token that opened
	// it. If zero, never.
	Expires time.Time
}

// Refusal is the error with which a handler's Grant hook refuses a client.
// Return a *Refusal; any other error of the hook is answered with 500.
type Refusal struct {
	// Status is the HTTP status of the answer. If zero, 403.
	Status int

	// RetryAfter tells the client when it may try again, where Status is one
	// that may pass (429, 503). If zero, nothing is said.
	RetryAfter time.Duration

	// Err is the reason, for the server's log. The client is not told.
	Err error
}

func (r *Refusal) Error() string {
	if r.Err == nil {
		return fmt.Sprintf("broadcast: refused with status %d", r.Status)
	}
	return fmt.Sprintf("broadcast: refused with status %d: %v", r.Status, r.Err)
}

// Unwrap returns the reason.
func (r *Refusal) Unwrap() error { return r.Err }

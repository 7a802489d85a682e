package broadcast

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrGap says that messages may have been lost. The error is a [*GapError].
	ErrGap = errors.New("broadcast: messages were lost")

	// ErrClosed says that the Broadcaster or the Subscription has been closed.
	ErrClosed = errors.New("broadcast: closed")

	// ErrNotPublished says that a message was surely not published: it was
	// invalid, or it never left. After any other error of Publish it may still
	// arrive.
	ErrNotPublished = errors.New("broadcast: not published")
)

// GapError says where a stream goes on after messages were lost. It is
// [ErrGap] for errors.Is.
type GapError struct {
	// ID is the place just before the first message that follows the loss, or
	// the log's head where none follows yet.
	ID ID

	// Topics are the ones that lost messages; nil: all of the subscription's.
	Topics []string
}

func (e *GapError) Error() string {
	topics := "all topics"
	if e.Topics != nil {
		topics = strings.Join(e.Topics, ", ")
	}
	return fmt.Sprintf("%v on %s: it goes on behind %s", ErrGap, topics, e.ID)
}

// Is makes errors.Is(err, ErrGap) true.
func (e *GapError) Is(target error) bool { return target == ErrGap }

package broadcast

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

var (
	// ErrGap says that messages may have been lost. The error is a [*GapError].
	ErrGap = errors.New("broadcast: messages were lost")

	// ErrBegin says that the messages that follow are the beginning of topics: a reader forgets
	// what it has of these. The error is a [*BeginError].
	ErrBegin = errors.New("broadcast: the topics begin")

	// ErrEnded says that all topics of a subscription have ended ([Message.End]), or of a
	// Publish that its topic has. Only a message with [Message.First] makes such a topic go on.
	ErrEnded = errors.New("broadcast: the topic has ended")

	// ErrSlow says that a subscription began three times, because each time something was lost
	// before it had caught up, and would have to begin again.
	ErrSlow = errors.New("broadcast: the subscription is too slow for its topics")

	// ErrCompacted is yielded by the Tail of a [Compactor] where it has left out entries that newer
	// ones stand for, which is no loss. If it has left out events as well, the error is a
	// [*CompactedError].
	ErrCompacted = errors.New("broadcast: entries were left out, and newer ones stand for them")

	// ErrClosed says that the Broadcaster or the Subscription has been closed.
	ErrClosed = errors.New("broadcast: closed")

	// ErrNotPublished says that a message was surely not published, because it was
	// invalid or never left the process. After any other error of Publish it may
	// still arrive.
	ErrNotPublished = errors.New("broadcast: not published")

	// ErrNotFollowing says that a Hub hears nothing of what its Journal takes, so that a
	// stream would be silent. Another server may hear it.
	ErrNotFollowing = errors.New("broadcast: the journal takes messages, and its tail yields none")
)

// GapError says after which ID a stream goes on when messages were lost. It is [ErrGap] for
// errors.Is.
type GapError struct {
	// ID is the position just before the first message that follows the loss, or the
	// log's head if none follows yet.
	ID ID

	// Topics are those that lost messages. If nil, all of the subscription's may have.
	Topics []string
}

func (e *GapError) Error() string {
	topics := "all topics"
	if e.Topics != nil {
		topics = strings.Join(e.Topics, ", ")
	}
	return fmt.Sprintf("%v on %s; the stream continues after %s", ErrGap, topics, e.ID)
}

// Is makes errors.Is(err, ErrGap) true.
func (e *GapError) Is(target error) bool { return target == ErrGap }

// BeginError says that the messages that follow are the beginning of topics: with
// [SubscribeOptions.Beginning], at first and after a loss. It is [ErrBegin] for errors.Is.
type BeginError struct {
	// Topics are those that begin. If nil, all of the subscription's do.
	Topics []string

	// Partial are those whose beginning may lack something: an event that was evicted since
	// the newest First, the value of a Key that was evicted, or what the topic had before it
	// was forgotten or before this Hub has read its Journal.
	Partial []string
}

func (e *BeginError) Error() string {
	topics := "all topics"
	if e.Topics != nil {
		topics = strings.Join(e.Topics, ", ")
	}
	text := fmt.Sprintf("%v: %s", ErrBegin, topics)
	if e.Partial != nil {
		text += "; incomplete are " + strings.Join(e.Partial, ", ")
	}
	return text
}

// Is makes errors.Is(err, ErrBegin) true.
func (e *BeginError) Is(target error) bool { return target == ErrBegin }

// EpochError is the [ErrGap] with which a [Journal]'s Tail yields a new epoch in which entries of
// an older one have kept their sequences, as after a restart of an engine that may have lost its
// newest entries. Streams get a gap, and go on after what they have had of those entries instead of
// getting them a second time.
type EpochError struct {
	// Survived is the newest entry of the epoch that the Tail was in, or was asked to go on
	// after, which is still there. It and all before it that are kept have the same
	// sequences in the new epoch.
	Survived ID
}

func (e *EpochError) Error() string {
	return fmt.Sprintf("%v: the journal has a new epoch, in which entries up to %s are still there", ErrGap, e.Survived)
}

// Is makes errors.Is(err, ErrGap) true.
func (e *EpochError) Is(target error) bool { return target == ErrGap }

// CompactedError is the [ErrCompacted] with which a Tail leaves out events: those who begin here lack
// them. Nothing else is lost.
type CompactedError struct {
	// Topics are those that lack events since their newest First. If nil, all may.
	Topics []string
}

func (e *CompactedError) Error() string {
	topics := "all topics"
	if e.Topics != nil {
		topics = strings.Join(e.Topics, ", ")
	}
	return fmt.Sprintf("%v, but for events of %s", ErrCompacted, topics)
}

// Is makes errors.Is(err, ErrCompacted) true.
func (e *CompactedError) Is(target error) bool { return target == ErrCompacted }

// AppendErrors is what [Journal.Append] returns if the messages of a call had different
// fates: one error for each message, in their order, nil for one that was added. Each is
// what the Publish of its message returns.
type AppendErrors []error

func (e AppendErrors) Error() string {
	failed := 0
	var first error
	for _, err := range e {
		if err != nil {
			failed++
			first = cmp.Or(first, err)
		}
	}
	return fmt.Sprintf("broadcast: %d of %d messages were not appended: %v", failed, len(e), first)
}

// Unwrap returns the errors of the messages that were not added.
func (e AppendErrors) Unwrap() []error {
	return slices.DeleteFunc(slices.Clone(e), func(err error) bool { return err == nil })
}

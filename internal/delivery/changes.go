package delivery

import (
	"slices"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// TopicsRequest is what a client sends to get other topics.
type TopicsRequest struct {
	Topics []string     // the whole new set
	After  broadcast.ID // the client had these topics up to here, on another connection; zero: it did not
}

// topicsAnswer is the answer to a change of topics. The new topics of a stream with
// Grant.Beginning begin before it.
type topicsAnswer struct {
	topics []string // that the client has
	added  []string // those that it did not have
	waits  bool     // the next Poll has still to report that these begin
}

// adds reports whether the client did not have any of these topics; nil: of all that it has
// now.
func (a *topicsAnswer) adds(topics []string) bool {
	if topics == nil {
		return len(a.added) == len(a.topics)
	}
	return !slices.ContainsFunc(topics, func(topic string) bool { return !slices.Contains(a.added, topic) })
}

// maxTopics is how many topics a subscription may have.
const maxTopics = 1000

// A change calls the user's Grant.Change, and makes or removes up to maxTopics cursors. So
// a client may change its topics changeBurst times at once, and then every changeEvery.
const (
	changeEvery = 200 * time.Millisecond
	changeBurst = 10
)

// postponeChange reports whether a change of topics has to wait, and then notifies the
// writer once it need not any more. Otherwise it counts the change.
func (s *Stream) postponeChange() bool {
	now := s.engine.clock.now()
	if wait := s.changesPaid - (changeBurst-1)*changeEvery - now; wait > 0 {
		if !s.changeTimed {
			s.changeTimed = true
			time.AfterFunc(wait, s.notify)
		}
		return true
	}
	s.changeTimed = false
	s.changesPaid = max(s.changesPaid, now) + changeEvery
	return false
}

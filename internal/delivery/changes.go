package delivery

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
)

// requests is what the client of an open stream asks for, and what the writer knows of that.
type requests struct {
	// Set by any goroutine, and taken by the writer.
	wanted atomic.Pointer[TopicsRequest] // the topics that it has asked for
	token  atomic.Pointer[string]        // what it has sent to be checked

	// Owned by the writer.
	paid    time.Duration   // the requests until now count up to here, on the engine's clock
	timed   bool            // a timer notifies the writer when the next request is allowed
	answer  *topicsAnswer   // to a change, until the topics that it adds have begun
	renewal *fanfare.Notice // the answer to a token, until the stream has begun
}

// asking returns the requests of the client, which is about to have one.
func (s *Stream) asking() *requests {
	if r := s.requests.Load(); r != nil {
		return r
	}
	s.requests.CompareAndSwap(nil, new(requests))
	return s.requests.Load()
}

// topicsAnswer returns the answer that the client waits for; nil: it does not.
func (s *Stream) topicsAnswer() *topicsAnswer {
	if r := s.requests.Load(); r != nil {
		return r.answer
	}
	return nil
}

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

// postpone reports whether a request has to wait, and then notifies the writer once it need
// not any more. Otherwise it counts the request.
func (r *requests) postpone(s *Stream) bool {
	now := s.engine.clock.now()
	if wait := r.paid - (changeBurst-1)*changeEvery - now; wait > 0 {
		if !r.timed {
			r.timed = true
			time.AfterFunc(wait, s.notify)
		}
		return true
	}
	r.timed = false
	r.paid = max(r.paid, now) + changeEvery
	return false
}

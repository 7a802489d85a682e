package sse_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// scripted is a Broadcaster with the methods of the interface alone. Each Poll of its only
// subscription returns the next of its results.
type scripted struct {
	begin broadcast.ID // the first position

	mu      sync.Mutex
	results []pollResult
	at      broadcast.ID
	notify  func()
	polls   int
	closed  bool
}

func (s *scripted) Publish(context.Context, broadcast.Message) (broadcast.ID, error) {
	return broadcast.ID{}, broadcast.ErrNotPublished
}

func (s *scripted) Subscribe(_ context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify, s.at = o.Notify, s.begin
	return s, nil
}

// returns adds the result of a Poll, and notifies the subscriber.
func (s *scripted) returns(result pollResult) {
	s.mu.Lock()
	s.results = append(s.results, result)
	notify := s.notify
	s.mu.Unlock()
	if notify != nil {
		notify()
	}
}

func (s *scripted) Poll(buf []*broadcast.Message) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polls++
	if s.closed {
		return 0, broadcast.ErrClosed
	}
	if len(s.results) == 0 {
		return 0, nil
	}
	result := s.results[0]
	s.results = s.results[1:]
	for i := range result.messages {
		buf[n] = &result.messages[i]
		s.at = buf[n].ID
		n++
	}
	if !result.position.IsZero() {
		s.at = result.position
	}
	return n, result.err
}

func (s *scripted) Position() broadcast.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *scripted) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// pollResult is what one Poll returns.
type pollResult struct {
	messages []broadcast.Message
	err      error
	position broadcast.ID // of the subscription from now on; zero: that of the last message
}

// neverIdle is a Broadcaster whose Poll always returns one more message, after 100 ms.
type neverIdle struct{ polls atomic.Int64 }

func (e *neverIdle) Publish(context.Context, broadcast.Message) (broadcast.ID, error) {
	return broadcast.ID{}, broadcast.ErrNotPublished
}

func (e *neverIdle) Subscribe(context.Context, broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	return e, nil
}

func (e *neverIdle) Poll(buf []*broadcast.Message) (int, error) {
	time.Sleep(100 * time.Millisecond)
	buf[0] = &broadcast.Message{ID: broadcast.MakeID(7, uint64(e.polls.Add(1))), Topic: "a", Data: []byte("x")}
	return 1, nil
}

func (e *neverIdle) Position() broadcast.ID { return broadcast.MakeID(7, uint64(e.polls.Load())) }
func (e *neverIdle) Close() error           { return nil }

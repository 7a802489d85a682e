package sse_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-go/fanfare/broadcast"
)

// scripted is a Broadcaster that is no Hub. Its only subscription returns what it
// has been told to, one look for each Poll.
type scripted struct {
	begin broadcast.ID

	mu     sync.Mutex
	looks  []look
	at     broadcast.ID
	notify func()
	polls  int
	closed bool
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

// says adds a look, and wakes the subscriber.
func (s *scripted) says(l look) {
	s.mu.Lock()
	s.looks = append(s.looks, l)
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
	if len(s.looks) == 0 {
		return 0, nil
	}
	l := s.looks[0]
	s.looks = s.looks[1:]
	for i := range l.messages {
		buf[n] = &l.messages[i]
		s.at = buf[n].ID
		n++
	}
	if !l.position.IsZero() {
		s.at = l.position
	}
	return n, l.err
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

// look is what one Poll returns.
type look struct {
	messages []broadcast.Message
	err      error
	position broadcast.ID // the subscription's from now on; zero: the last message's, if there is one
}

// neverIdle is a Broadcaster without Finish that always has one more message.
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

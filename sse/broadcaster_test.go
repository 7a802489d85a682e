package sse_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/sse"
)

// A handler needs no more than the methods of the Broadcaster interface.
func TestAnyBroadcasterCanBeStreamed(t *testing.T) {
	id := func(seq uint64) broadcast.ID { return broadcast.MakeID(2, seq) }
	message := func(seq uint64) broadcast.Message {
		return broadcast.Message{ID: id(seq), Topic: "a", Data: []byte("x")}
	}
	for _, test := range []struct {
		name, why string
		then      func(t *testing.T, n *network, b *scripted)
		want      string
		reason    string
		errors    int // logged
	}{
		{"Shutdown", "without Finish the client gets what one more Poll returns", func(t *testing.T, n *network, b *scripted) {
			b.mu.Lock() // without Notify: the end itself polls
			b.results = append(b.results, pollResult{messages: []broadcast.Message{message(2), message(3)}})
			b.mu.Unlock()
			require.NoError(t, n.server.Shutdown(t.Context()))
		}, "id: 2-2\ndata: x\n\nid: 2-3\ndata: x\n\n", "restart", 0},
		{"an error of Poll", "it is a fault of the server, and the client reconnects", func(t *testing.T, n *network, b *scripted) {
			b.returns(pollResult{err: errors.New("the engine is on fire")})
		}, "", "fault", 1},
		{"an error of Poll with messages", "the messages are sent first", func(t *testing.T, n *network, b *scripted) {
			b.returns(pollResult{messages: []broadcast.Message{message(2)}, err: errors.New("the engine is on fire")})
		}, "id: 2-2\ndata: x\n\n", "fault", 1},
		{"the end of the Broadcaster", "pending messages are sent first", func(t *testing.T, n *network, b *scripted) {
			b.returns(pollResult{messages: []broadcast.Message{message(2)}, err: broadcast.ErrClosed})
		}, "id: 2-2\ndata: x\n\n", "restart", 0},
		{"a wrapped end of the Broadcaster", "it is the end", func(t *testing.T, n *network, b *scripted) {
			b.returns(pollResult{err: fmt.Errorf("done: %w", broadcast.ErrClosed)})
		}, "", "restart", 0},
		{"a wrapped gap", "it is a gap", func(t *testing.T, n *network, b *scripted) {
			b.returns(pollResult{messages: []broadcast.Message{message(8)}, err: fmt.Errorf("lagging: %w", &broadcast.GapError{ID: id(7), Topics: []string{"a"}})})
			synctest.Wait()
			b.returns(pollResult{err: broadcast.ErrClosed})
		}, "event: gap\nid: 2-7\ndata: {\"gap\":\"2-7\",\"topics\":[\"a\"]}\n\nid: 2-8\ndata: x\n\n", "restart", 0},
		{"Notify without cause", "the stream polls, and waits again", func(t *testing.T, n *network, b *scripted) {
			for range 100 {
				b.notify()
			}
			synctest.Wait()
			b.returns(pollResult{messages: []broadcast.Message{message(2)}})
			synctest.Wait()
			b.returns(pollResult{err: broadcast.ErrClosed})
		}, "id: 2-2\ndata: x\n\n", "restart", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := &logbook{}
			b := &scripted{begin: id(1)}
			h := &sse.Handler{Broadcaster: b, Topics: []string{"a"}, Logger: log.logger()}
			serve(t, h, func(t *testing.T, n *network) {
				s := n.get("/")
				s.expect("retry: 3000\nid: 2-1\n\n")
				synctest.Wait()
				test.then(t, n, b)
				rest, err := s.rest()
				require.NoError(t, err)
				require.Equal(t, test.want, rest, test.why)
				synctest.Wait()
				require.True(t, b.closed, "the handler closes its subscription")
				require.Equal(t, test.reason, log.with("stream ended")[0]["reason"])
				require.Len(t, log.with("sse: ended a stream"), test.errors)
			})
		})
	}
}

// An error of the first Poll answers the request with 500: nothing has been sent yet.
func TestErrorOfTheFirstPollAnswersTheRequest(t *testing.T) {
	b := &scripted{begin: broadcast.MakeID(2, 1), results: []pollResult{{err: errors.New("the engine is on fire")}}}
	h := &sse.Handler{Broadcaster: b, Topics: []string{"a"}, Logger: silent}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	require.Equal(t, 500, w.Code)
	require.True(t, b.closed)
}

// A panic in the first Poll is left to net/http, which recovers it. A later one, which may
// happen in a goroutine of the stream, ends the stream and not the process.
func TestPanicInPollEndsItsStreamAlone(t *testing.T) {
	first := &panics{scripted{begin: broadcast.MakeID(2, 1)}, 1}
	h := &sse.Handler{Broadcaster: first, Topics: []string{"a"}, Logger: silent}
	require.Panics(t, func() { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)) })
	require.True(t, first.closed)

	log := &logbook{}
	later := &panics{scripted{begin: broadcast.MakeID(2, 1)}, 2}
	h = &sse.Handler{Broadcaster: later, Topics: []string{"a"}, Logger: log.logger()}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	require.Equal(t, "retry: 3000\nid: 2-1\n\n", nominal(w.Body.String()))
	require.True(t, later.closed)
	require.Len(t, log.with("sse: ended a stream"), 1)
}

// panics is a Broadcaster whose Poll panics in the last of a number of calls.
type panics struct {
	scripted
	left int // calls
}

func (p *panics) Subscribe(ctx context.Context, o broadcast.SubscribeOptions) (broadcast.Subscription, error) {
	_, err := p.scripted.Subscribe(ctx, o)
	return p, err
}

func (p *panics) Poll(buf []*broadcast.Message) (int, error) {
	if p.left--; p.left == 0 {
		panic("in Poll")
	}
	return p.scripted.Poll(buf)
}
